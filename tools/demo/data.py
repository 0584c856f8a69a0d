"""Batches: drawn scenes, dense labels for the vision tower, and prompts with answers as token ids."""

from dataclasses import dataclass

import numpy as np
import torch

import scenes
import shapes
import tasks
import texts
import tokenizer as vocabulary
from model import GRID, IMAGE_SIZE, IMAGE_TOKENS

# Streams of scenes. No two streams share a scene.
TRAIN, VALIDATION, TEST = 1, 2, 3

POSES = {}  # the number of a kind's first pose among all
for _kind in scenes.KINDS:
    POSES[_kind] = sum(shapes.POSES[k] for k in POSES)

CLASSES = {  # the dense labels of a patch, and how many classes each has; 0 is "no shape here"
    "color": len(scenes.COLOR_NAMES) + 1,
    "kind": len(scenes.KINDS) + 1,
    "order": scenes.MAX_SHAPES + 1,  # from left to right
    "order_in_kind": scenes.MAX_SHAPES + 1,
    "same_kind": scenes.MAX_SHAPES + 1,
    "same_color": scenes.MAX_SHAPES + 1,
    "pose": sum(shapes.POSES.values()) + 1,
    "shapes": scenes.MAX_SHAPES + 1,  # in the whole picture; on every patch
    "background": len(scenes.BACKGROUND_NAMES),  # on every patch
}
OF_SHAPES = 7  # the first of them; the others are of the whole picture
CHARACTERS = len(texts.CHARACTERS) + 1  # classes of a half of a patch; 0 is "no character's middle is here"
HALVES = 2  # of a patch, left and right: characters are narrower than patches

IGNORED = -100  # PyTorch's label for "count no loss here"
FINE = 4  # cells per side of a patch
EDGE, ENOUGH = 0.03, 0.2  # coverage that a patch has a part of a shape from, and is the shape's from
ENOUGH_LINE = 0.1  # the same of a hollow shape's line

# Relative frequency of each task in scenes with shapes.
MIXTURE = [
    (tasks.caption_short, 0.12),
    (tasks.caption, 0.06),
    (tasks.describe, 0.06),
    (tasks.caption_region, 0.06),
    (tasks.question, 0.29),
    (tasks.ask, 0.04),
    (tasks.detect, 0.26),
    (tasks.segment, 0.09),
    (tasks.ocr, 0.02),
]
EMPTY = 2  # prompts about shapes in a scene without any
EMPTY_TASKS = [tasks.question, tasks.detect, tasks.segment]


def pixels(images):
    """uint8 [n, height, width, 3] to the model's input, f32 [n, 3, height, width] in -1..1."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@dataclass
class Dense:
    """What the patches of pictures show; [n, patches, ...]."""

    labels: torch.Tensor  # int64 [..., classes], the order of CLASSES
    boxes: torch.Tensor  # f32 [..., 4], the box of the patch's shape in 0..1
    cover: torch.Tensor  # f32 [..., FINE * FINE], how much of each cell some shape covers
    characters: torch.Tensor  # int64 [..., HALVES]


def _by_patch(cells):
    return cells.reshape(GRID, FINE, GRID, FINE).transpose(0, 2, 1, 3).reshape(GRID, GRID, FINE * FINE)


def _visible(scene):
    """How much of each cell each shape encloses and how much of each patch it inks, without what covers it."""
    enclosed, inked = [], []
    for shape in scene.shapes:
        enclosed.append(_by_patch(shapes.cover(shape, scene.size, GRID * FINE)))
        whole = _by_patch(shapes.cover(shape, scene.size, GRID * FINE, pen=True)) if shape.hollow else enclosed[-1]
        inked.append(whole.mean(-1))
    for i, lower in enumerate(scene.shapes):
        for j, upper in enumerate(scene.shapes):
            if upper.height > lower.height and not upper.hollow:
                inked[i] = np.maximum(inked[i] - enclosed[j].mean(-1), 0)
    return enclosed, inked


def _characters(scene):
    labels = np.zeros((GRID, GRID * HALVES), np.int64)
    for text in scene.texts:
        for character, x, y in text.characters:
            if 0 <= x < 1 and 0 <= y < 1:
                labels[int(y * GRID), int(x * GRID * HALVES)] = texts.CHARACTERS.index(character) + 1
    return labels.reshape(IMAGE_TOKENS, HALVES)


def _dense(scene):
    """Labels, boxes, cover and characters of one scene's patches.

    A patch belongs to the shape that inks enough of it, or whose best patch it is. One with a mere edge of a
    shape has no label but the picture's own.
    """
    labels = np.zeros((GRID, GRID, len(CLASSES)), np.int64)
    boxes = np.zeros((GRID, GRID, 4), np.float32)
    full = np.zeros((GRID, GRID, FINE * FINE), np.float32)
    kinds, colors = [s.kind for s in scene.shapes], [s.color for s in scene.shapes]
    enclosed, inked = _visible(scene)
    for cells, ink in zip(enclosed, inked):
        labels[np.maximum(ink, cells.mean(-1)) > EDGE] = IGNORED
        full = np.maximum(full, cells)
    for i, shape in enumerate(scene.shapes):
        inside = inked[i] >= min(ENOUGH_LINE if shape.hollow else ENOUGH, inked[i].max())
        labels[inside, :OF_SHAPES] = (
            scenes.COLOR_NAMES.index(shape.color) + 1,
            scenes.KINDS.index(shape.kind) + 1,
            i + 1,
            kinds[:i].count(shape.kind) + 1,
            kinds.count(shape.kind),
            colors.count(shape.color),
            POSES[shape.kind] + shape.pose + 1,
        )
        boxes[inside] = shape.box
    labels[..., OF_SHAPES] = len(scene.shapes)
    labels[..., OF_SHAPES + 1] = scenes.BACKGROUND_NAMES.index(scene.background)
    return [part.reshape(IMAGE_TOKENS, -1) for part in (labels, boxes, full)] + [_characters(scene)]


@dataclass
class Prompts:
    """Prompts of similar length, padded to the longest."""

    image: torch.Tensor  # [n] which picture of the batch
    ids: torch.Tensor  # [n, length] from <bos> to the answer's last token but <eos>
    prefix: torch.Tensor  # [n] image tokens, <bos>, prompt and newline
    targets: torch.Tensor  # [n, length] the next token where it is part of the answer, else -1
    names: list  # the task of each


@dataclass
class Packed:
    """Several prompts about each picture in one row, [pictures, length] each."""

    ids: torch.Tensor
    segment: torch.Tensor  # number of the prompt, -1 on padding
    is_prompt: torch.Tensor  # true on prompts, false on answers
    position: torch.Tensor
    targets: torch.Tensor  # the next token where it is part of the answer, else -1


class Batches:
    """Draws the `index`-th batch of a stream; deterministic, and the same on every run."""

    def __init__(self, tokenizer, mask_codes, stream, images, prompts):
        self.tokenizer, self.mask_codes = tokenizer, mask_codes
        self.stream, self.images, self.prompts = stream, images, prompts
        self.tasks = [task for task, _ in MIXTURE]
        self.shares = np.array([share for _, share in MIXTURE])
        self.shares /= self.shares.sum()

    def scenes(self, index):
        return [scenes.numbered(self.stream, index * self.images + i) for i in range(self.images)]

    def pictures(self, drawn):
        """A list of scenes as uint8 [n, height, width, 3], and its dense labels."""
        images = torch.from_numpy(np.stack([scenes.seen(s, IMAGE_SIZE) for s in drawn]))
        return images, Dense(*(torch.from_numpy(np.stack(part)) for part in zip(*map(_dense, drawn))))

    def _chosen(self, scene, rng, prompts):
        """The tasks of one scene; its text is read once at most."""
        if not scene.shapes:
            return [tasks.ocr] + [EMPTY_TASKS[i] for i in rng.integers(len(EMPTY_TASKS), size=EMPTY)]
        chosen = [self.tasks[i] for i in rng.choice(len(self.tasks), size=prompts, p=self.shares)]
        reads = bool(scene.texts) or tasks.ocr in chosen
        chosen = [task for task in chosen if task is not tasks.ocr] + [tasks.ocr] * reads
        return [chosen[i] for i in rng.permutation(len(chosen))]

    def asked(self, drawn, index, prompts):
        """(picture, task name, prompt, answer) of every prompt of a batch."""
        rng = np.random.default_rng([self.stream, index, 7])
        for i, scene in enumerate(drawn):
            for task in self._chosen(scene, rng, prompts):
                made = task(scene, rng, self.mask_codes) if task is tasks.segment else task(scene, rng)
                if made is not None:
                    yield i, task.__name__, *made

    def rows(self, drawn, index, prompts):
        """(picture, task name, ids of the prompt, ids of the answer) of every prompt of a batch."""
        for i, name, prompt, answer in self.asked(drawn, index, prompts):
            before = [vocabulary.BOS_ID] + self.encode(prompt + "\n")
            after = vocabulary.spelled(self.tokenizer, answer) if name == "ocr" else self.encode(answer)
            yield i, name, before, after + [vocabulary.EOS_ID]

    def packed(self, drawn, index, length):
        """The prompts of a batch, those of one picture in one row of `length` tokens, as many as fit."""
        shape = (len(drawn), length)
        ids, segment = np.zeros(shape, np.int64), np.full(shape, -1)
        is_prompt, position, targets = np.zeros(shape, bool), np.zeros(shape, np.int64), np.full(shape, -1)
        starts, numbers = [0] * len(drawn), [0] * len(drawn)
        for i, _, before, after in self.rows(drawn, index, self.prompts):
            start = starts[i]
            middle, end = start + len(before), start + len(before) + len(after) - 1
            if end > length:
                continue
            numbers[i] += 1
            starts[i] = end
            ids[i, start:end] = before + after[:-1]
            segment[i, start:end] = numbers[i]
            is_prompt[i, start:middle] = True
            position[i, start:end] = IMAGE_TOKENS + 1 + np.arange(end - start)
            targets[i, middle - 1 : end] = after
        return Packed(*(torch.from_numpy(part) for part in (ids, segment, is_prompt, position, targets)))

    def groups(self, drawn, index, count, prompts):
        """`prompts` for each picture of a batch, in `count` groups sorted by length, to save padding."""
        rows = list(self.rows(drawn, index, prompts))
        rows.sort(key=lambda row: len(row[2]) + len(row[3]))
        size = -(-len(rows) // count)
        return [_pad(rows[i : i + size]) for i in range(0, len(rows), size)]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def _pad(rows):
    length = max(len(before) + len(after) for _, _, before, after in rows) - 1
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), -1)
    for row, (_, _, before, after) in enumerate(rows):
        whole = before + after
        ids[row, : len(whole) - 1] = torch.tensor(whole[:-1])
        targets[row, len(before) - 1 : len(whole) - 1] = torch.tensor(after)
    prefix = torch.tensor([IMAGE_TOKENS + len(before) for _, _, before, _ in rows])
    return Prompts(torch.tensor([row[0] for row in rows]), ids, prefix, targets, [row[1] for row in rows])
