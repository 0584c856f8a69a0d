"""Compares answers with what is right."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from palette import COLORS
from shapes import KINDS

# A score from here on counts as sure, and a box with this overlap as found.
SURE = 0.5
FOUND = 0.5

NUMBERS = {word: n for n, word in enumerate(["one", "two", "three", "four", "five", "six"], 1)}
_GREYS = ["gray", "grey", "black", "white"]
_NAMED = re.compile(
    rf"(?:\b({'|'.join(NUMBERS)}|[1-6]) )?"  # how many, else one
    rf"(?:\b({'|'.join(COLORS + _GREYS)}) )?"
    rf"\b({'|'.join(KINDS)})(?:e?s)?\b"
)
_COUNT = re.compile(rf"([1-9]) ({'|'.join(KINDS)})((?:e?s)?)")
_OBJECT = re.compile(r"((?:<loc\d{4}>){4})((?:<seg\d{3}>){16})?([^;<]*)")


@dataclass
class Found:
    """An object in an answer."""

    label: str
    box: tuple  # x0, y0, x1, y1 from 0 to 1
    score: float | None = None  # transformers gives none
    mask: np.ndarray | None = None  # bool [height, width]


def values(prompt, answer):
    """(measure, value) pairs: what the answer adds to each measure's mean."""
    if prompt.measure == "questions":
        return [("questions", plain(answer) in prompt.right)]
    if prompt.measure == "captions":
        return [("captions", named(answer, colors=_colored(prompt.right)) == prompt.right)]
    if prompt.measure == "counts":
        return [("counts", counted(answer) == prompt.right)]
    if prompt.measure == "words":
        return [("words", right) for right in words(answer, prompt.right)]
    overlap = box_overlap if prompt.measure == "boxes" else mask_overlap
    overlaps, used = match(answer, prompt.right, overlap)
    result = [(f"{prompt.measure}: number", len(answer) == len(prompt.right))]
    result += [(f"{prompt.measure}: IoU", value) for value in overlaps]
    if prompt.measure == "boxes":
        result += _confidence(answer, overlaps, used)
    return result


def plain(answer):
    """Without what does not change its meaning."""
    return re.sub(r"^(the|an?) ", "", answer.strip().lower().rstrip("."))


def named(caption, colors=True):
    """How many of each shape a caption names; without their colours, if nothing else is known of them."""
    counted = Counter()
    for number, color, kind in _NAMED.findall(caption.lower()):
        name = f"{color} {kind}".strip() if colors else kind
        counted[name] += NUMBERS.get(number, int(number) if number.isdigit() else 1)
    return counted


def counted(caption):
    """How many of each kind a caption such as `2 circles, 1 star` counts, or None if it is none."""
    numbers = {}
    for part in caption.split(", "):
        found = _COUNT.fullmatch(part)
        if not found:
            return None
        number, kind, ending = int(found[1]), found[2], found[3]
        if kind in numbers or ending != ("" if number == 1 else "es" if kind == "cross" else "s"):
            return None
        numbers[kind] = number
    return numbers


def _colored(names):
    return any(" " in name for name in names)


def words(answer, right):
    """Whether each word is in the answer exactly, in whatever order; each word too many counts as a wrong one."""
    read, wanted = Counter(answer.split()), Counter(right)
    exact = (read & wanted).total()
    return [True] * exact + [False] * (max(read.total(), wanted.total()) - exact)


def objects(text):
    """(label, box as x0, y0, x1, y1 from 0 to 1, codes or None) of each object that the model wrote."""
    found = []
    for corners, codes, label in _OBJECT.findall(text):
        y0, x0, y1, x1 = (int(edge) / 1023 for edge in re.findall(r"\d{4}", corners))
        # The server drops empty boxes.
        if x0 < x1 and y0 < y1:
            found.append((label.strip(), (x0, y0, x1, y1), [int(code) for code in re.findall(r"\d{3}", codes)] or None))
    return found


def match(found, wanted, overlap):
    """Pairs found objects with wanted ones, best pairs first.

    Returns the overlap of each wanted one, 0 without a partner, and the index of each one's partner or None.
    """
    pairs = sorted(((overlap(f, w), i, j) for i, f in enumerate(found) for j, w in enumerate(wanted)), reverse=True)
    best, partner = [0.0] * len(wanted), [None] * len(wanted)
    for value, i, j in pairs:
        if value > 0 and i not in partner and partner[j] is None:
            best[j], partner[j] = float(value), i
    return best, partner


def box_overlap(found, wanted):
    label, shape = wanted
    return box_iou(found.box, shape.box) if found.label == label else 0.0


def box_iou(a, b):
    inner = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inner / (area - inner)


def mask_overlap(found, wanted):
    """With a hollow shape, the mask may contain its inside or not: people draw both."""
    label, shape = wanted
    if found.label != label or found.mask is None:
        return 0.0
    return max(mask_iou(found.mask, shape.visible), mask_iou(found.mask, shape.ink))


def mask_iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def _confidence(found, overlaps, partner):
    """For each sure box, whether it is right; for each shape, whether a sure box found it."""
    if any(f.score is None for f in found):
        return []
    right = {i: value >= FOUND for i, value in zip(partner, overlaps) if i is not None}
    sure = [("sure: precision", right.get(i, False)) for i, f in enumerate(found) if f.score >= SURE]
    reached = [i is not None and right[i] and found[i].score >= SURE for i in partner]
    return sure + [("sure: recall", value) for value in reached]
