"""Batches: drawn scenes, dense labels for the vision tower, and prompts with answers as token ids."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import scenes
import tasks
import tokenizer as vocabulary
from model import GRID, IMAGE_SIZE, IMAGE_TOKENS

# Streams of scenes. No two streams share a scene.
TRAIN, VALIDATION, TEST = 1, 2, 3

CLASSES = {  # the dense labels of a patch, and how many classes each has; 0 is "no shape here"
    "color": len(scenes.COLOR_NAMES) + 1,
    "kind": len(scenes.KINDS) + 1,
    "order": scenes.MAX_SHAPES + 1,  # from left to right
    "order_in_kind": scenes.MAX_SHAPES + 1,
    "same_kind": scenes.MAX_SHAPES + 1,
    "same_color": scenes.MAX_SHAPES + 1,
    "shapes": scenes.MAX_SHAPES + 1,  # in the whole picture; on every patch
    "background": len(scenes.BACKGROUND_NAMES),  # on every patch
}

IGNORED = -100  # PyTorch's label for "count no loss here"
FINE = 4  # cells per side of a patch
EDGE, ENOUGH = 0.03, 0.2  # coverage that a patch has a part of a shape from, and is the shape's from

# Relative frequency of each task.
MIXTURE = [
    (tasks.caption_short, 0.12),
    (tasks.caption, 0.1),
    (tasks.describe, 0.08),
    (tasks.question, 0.35),
    (tasks.detect, 0.25),
    (tasks.segment, 0.1),
]


def pixels(drawn):
    """uint8 [n, height, width, 3] to the model's input, f32 [n, 3, height, width] in -1..1."""
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@dataclass
class Dense:
    """What the patches of pictures show; [n, patches, ...]."""

    labels: torch.Tensor  # int64 [..., classes], the order of CLASSES
    boxes: torch.Tensor  # f32 [..., 4], the box of the patch's shape in 0..1
    cover: torch.Tensor  # f32 [..., FINE * FINE], how much of each cell some shape covers


def _cover(shape):
    """How much of each cell a shape covers, f32 [GRID, GRID, FINE * FINE] in 0..1."""
    side = GRID * FINE
    full = np.zeros((side, side), np.float32)
    top, left, share = scenes.coverage(shape, side, side, Image.Resampling.BOX)
    full[top : top + share.shape[0], left : left + share.shape[1]] = share[: side - top, : side - left]
    return full.reshape(GRID, FINE, GRID, FINE).transpose(0, 2, 1, 3).reshape(GRID, GRID, FINE * FINE)


def _dense(scene):
    """Labels, boxes and cover of one scene's patches.

    A patch belongs to the shape that covers enough of it, or whose best patch it is. One with a mere edge of a
    shape has no label but the picture's own.
    """
    labels = np.zeros((GRID, GRID, len(CLASSES)), np.int64)
    boxes = np.zeros((GRID, GRID, 4), np.float32)
    kinds, colors = [s.kind for s in scene.shapes], [s.color for s in scene.shapes]
    cover = [_cover(shape) for shape in scene.shapes]
    covered = [c.mean(-1) for c in cover]
    labels[np.max(covered, 0) > EDGE] = IGNORED
    for i, shape in enumerate(scene.shapes):
        inside = covered[i] >= min(ENOUGH, covered[i].max())
        labels[inside, :6] = (
            scenes.COLOR_NAMES.index(shape.color) + 1,
            scenes.KINDS.index(shape.kind) + 1,
            i + 1,
            kinds[:i].count(shape.kind) + 1,
            kinds.count(shape.kind),
            colors.count(shape.color),
        )
        boxes[inside] = shape.box
    labels[..., 6] = len(scene.shapes)
    labels[..., 7] = scenes.BACKGROUND_NAMES.index(scene.background.name)
    return [part.reshape(IMAGE_TOKENS, -1) for part in (labels, boxes, np.sum(cover, 0))]


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
        """Pixels and dense labels of a list of scenes."""
        images = pixels([scenes.draw(s, IMAGE_SIZE, IMAGE_SIZE) for s in drawn])
        return images, Dense(*(torch.from_numpy(np.stack(part)) for part in zip(*map(_dense, drawn))))

    def asked(self, drawn, index):
        """(picture, task name, prompt, answer) of every prompt of a batch."""
        rng = np.random.default_rng([self.stream, index, 7])
        for i, scene in enumerate(drawn):
            for choice in rng.choice(len(self.tasks), size=self.prompts, p=self.shares):
                task = self.tasks[choice]
                prompt, answer = task(scene, rng, self.mask_codes) if task is tasks.segment else task(scene, rng)
                yield i, task.__name__, prompt, answer

    def rows(self, drawn, index):
        """(picture, task name, ids of the prompt, ids of the answer) of every prompt of a batch."""
        for i, name, prompt, answer in self.asked(drawn, index):
            before = [vocabulary.BOS_ID] + self.encode(prompt + "\n")
            yield i, name, before, self.encode(answer) + [vocabulary.EOS_ID]

    def packed(self, drawn, index):
        """All prompts of a batch, those of one picture in one row."""
        rows = [[] for _ in drawn]
        for i, _, before, after in self.rows(drawn, index):
            rows[i].append((before, after))
        length = max(sum(len(before) + len(after) - 1 for before, after in row) for row in rows)
        shape = (len(rows), length)
        ids, segment = np.zeros(shape, np.int64), np.full(shape, -1)
        is_prompt, position, targets = np.zeros(shape, bool), np.zeros(shape, np.int64), np.full(shape, -1)
        for i, row in enumerate(rows):
            start = 0
            for number, (before, after) in enumerate(row, 1):
                middle, end = start + len(before), start + len(before) + len(after) - 1
                ids[i, start:end] = before + after[:-1]
                segment[i, start:end] = number
                is_prompt[i, start:middle] = True
                position[i, start:end] = IMAGE_TOKENS + 1 + np.arange(end - start)
                targets[i, middle - 1 : end] = after
                start = end
        return Packed(*(torch.from_numpy(part) for part in (ids, segment, is_prompt, position, targets)))

    def groups(self, drawn, index, count):
        """The prompts of a batch in `count` groups sorted by length, to save padding."""
        rows = list(self.rows(drawn, index))
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
