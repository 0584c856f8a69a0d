"""Captions that count instead of naming: what the adapter of train_adapter.py answers.

Kinds come from left to right, each where its first shape is: `2 circles, 1 star`. Without a shape it is `no shapes`.
"""

from collections import Counter

import tasks
from data import Batches

ORDINARY = 3  # ordinary prompts drawn for each picture, of which those of LEFT_OUT don't count
NOTHING = "no shapes"


def counts(shapes):
    """The counts of shapes that are sorted from left to right."""
    numbers = Counter(shape.kind for shape in shapes)
    return ", ".join(f"{n} {kind if n == 1 else tasks.plural(kind)}" for kind, n in numbers.items()) or NOTHING


def caption_short(scene, rng):
    return "cap en", counts(scene.shapes)


def caption(scene, rng):
    return "caption en", counts(scene.shapes)


def describe(scene, rng):
    return "describe en", counts(scene.shapes)


def caption_region(scene, rng):
    part = tasks.region(scene, rng, empty=True)
    return part and (f"caption {tasks.box_tokens(part[0])}", counts(part[1]))


WHOLE = [caption_short, caption, describe]
# Captions that name, and reading, which the base can't.
LEFT_OUT = [tasks.caption_short, tasks.caption, tasks.describe, tasks.caption_region, tasks.ocr]


class CountingBatches(Batches):
    """Every caption of each picture, two of its parts, and some ordinary prompts, so that those stay as they are."""

    def _chosen(self, scene, rng, prompts):
        ordinary = [task for task in super()._chosen(scene, rng, ORDINARY) if task not in LEFT_OUT]
        chosen = WHOLE + [caption_region] * 2 + ordinary
        return [chosen[i] for i in rng.permutation(len(chosen))[:prompts]]
