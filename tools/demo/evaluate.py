"""Evaluates the demo on 1,000 scenes that training never saw.

    python evaluate.py --server http://127.0.0.1:8080      # through the running server
    python evaluate.py --folder ../../models/demo          # with transformers itself
    python evaluate.py --folder ../../models/demo --adapter ../../models/demo-counting --counts

Both use the same prompts and the same PNG pictures, each with its own aspect ratio. Prints one table. The scenes come
from the training's own code; `evaluation` measures on scenes that other code draws.
"""

import argparse
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import counting
import scenes
import shapes
import tasks
from answerers import Folder, Server
from data import TEST
from validation import box_ious
from vqvae import decode, load_decoder

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
OBJECT = re.compile(r"((?:<loc\d{4}>){4})((?:<seg\d{3}>){16})?\s*([^;<]*)")
NAME = re.compile(rf"({'|'.join(scenes.COLOR_NAMES)}) ({'|'.join(scenes.KINDS)})")
SEEN = 280  # side of the square that scenes are made for: larger than the model sees, as pictures are


def questions(scene, rng):
    """The prompts for one scene: (kind of measure, prompt, true answer)."""
    if scene.texts:
        yield "reading", *tasks.ocr(scene, rng)
    if scene.shapes:
        for task in (tasks.caption_short, tasks.caption, tasks.describe):
            yield "captions", *task(scene, rng)
        region = tasks.caption_region(scene, rng)
        if region is not None:
            yield "regions", *region
        for _ in range(3):
            yield "questions", *tasks.question(scene, rng)
    yield "detection", *tasks.detect(scene, rng)
    yield "segmentation", *tasks.segment(scene, rng)


def counted(scene, rng):
    """The prompts of captions that count."""
    for task in counting.WHOLE:
        yield "counts", *task(scene, rng)
    region = counting.caption_region(scene, rng)
    if region is not None:
        yield "counts of parts", *region


def objects(text):
    """(label, box f32 [4] as y0, x0, y1, x1 in 0..1, codes or None) of each object in an answer."""
    found = []
    for corners, codes, label in OBJECT.findall(text):
        box = np.array([int(v) for v in re.findall(r"\d{4}", corners)], np.float32) / (tasks.BINS - 1)
        found.append((label.strip(), box, [int(v) for v in re.findall(r"\d{3}", codes)] or None))
    return found


def match(found, wanted, overlap):
    """Matches wanted with found objects, best pairs first, and returns each wanted one's overlap; 0 without a match."""
    pairs = sorted(((overlap(f, w), i, j) for i, f in enumerate(found) for j, w in enumerate(wanted)), reverse=True)
    best, used = [0.0] * len(wanted), set()
    for value, i, j in pairs:
        if i not in used and best[j] == 0.0 and value > 0:
            best[j] = float(value)
            used.add(i)
    return best


def wanted_shapes(scene, prompt):
    phrases = prompt.split(" ", 1)[1].split(" ; ")
    return [(phrase, s) for phrase in phrases for s in tasks.matches(scene, phrase)]


def box_overlap(found, wanted):
    if found[0] != wanted[0]:
        return 0.0
    return box_ious(torch.tensor(found[1])[None], torch.tensor(wanted[1].box)[None]).item()


class MaskOverlap:
    """IoU of whole-picture masks, on a 256 x 256 canvas."""

    SIDE = 256

    def __init__(self, scene, codebook, decoder):
        self.scene, self.codebook, self.decoder = scene, codebook, decoder

    def full(self, box, codes):
        canvas = np.zeros((self.SIDE, self.SIDE), bool)
        y0, x0, y1, x1 = np.round(box * self.SIDE).astype(int)
        if codes is not None and y1 > y0 and x1 > x0:
            values = Image.fromarray(decode(self.codebook, self.decoder, codes))
            canvas[y0:y1, x0:x1] = np.asarray(values.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)) > 0
        return canvas

    def __call__(self, found, wanted):
        if found[0] != wanted[0]:
            return 0.0
        mine = self.full(found[1], found[2])
        true = Image.fromarray(shapes.mask(wanted[1], *self.scene.size))
        true = np.asarray(true.resize((self.SIDE, self.SIDE)))
        return (mine & true).sum() / max((mine | true).sum(), 1)


class Scores:
    def __init__(self, decoder_file):
        self.codebook, self.decoder = load_decoder(decoder_file)
        self.values = defaultdict(list)

    def add(self, measure, scene, prompt, truth, answer):
        if measure == "reading":
            words = answer.split()
            self.values["ocr: words exact"] += [word in words for word in truth.split()]
            self.values["ocr: whole text exact"].append(answer == truth)
            return
        if measure.startswith("counts"):
            self.values[f"{measure} exact"].append(answer == truth)
            self.values[f"{measure} in any order"].append(sorted(answer.split(", ")) == sorted(truth.split(", ")))
            if measure == "counts":
                self.values[f"  {prompt}"].append(answer == truth)
                self.values[f"  counts of {len(scene.shapes)} shapes"].append(answer == truth)
            return
        if measure in ("captions", "regions"):
            named = Counter(" ".join(name) for name in NAME.findall(answer))
            right = named == Counter(" ".join(name) for name in NAME.findall(truth))
            self.values[f"{measure} naming exactly the right shapes"].append(right)
            if measure == "captions":
                self.values[f"  {prompt}"].append(right)
            return
        if measure == "questions":
            self.values["questions exact"].append(answer.strip() == truth)
            self.values["  " + " ".join(prompt.split()[2:4])].append(answer.strip() == truth)
            return
        found, wanted = objects(answer), wanted_shapes(scene, prompt)
        self.values[f"{measure}: right number"].append(len(found) == len(wanted))
        self.values[f"  {measure} of {prompt.count(';') + 1} phrases"].append(len(found) == len(wanted))
        overlap = box_overlap if measure == "detection" else MaskOverlap(scene, self.codebook, self.decoder)
        self.values[f"{measure}: mean IoU"] += match(found, wanted, overlap)

    def table(self):
        rows = [f"{name:45} {np.mean(v):.3f}  ({len(v)})" for name, v in self.values.items()]
        return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", help="address of a running server")
    where.add_argument("--folder", type=Path, help="checkpoint to load with transformers")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter on that folder's checkpoint")
    parser.add_argument("--counts", action="store_true", help="captions should count: `2 circles, 1 star`")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--decoder", type=Path, default=DEMO / "vae-oid.safetensors", help="decoder of the mask codes")
    args = parser.parse_args()

    asked = []
    for index in range(args.scenes):
        scene, rng = scenes.numbered(TEST, index, SEEN), np.random.default_rng([TEST, index, 7])
        image = scenes.draw(scene)
        prompts = list(questions(scene, rng))
        if args.counts:
            prompts = [p for p in prompts if p[0] not in ("captions", "regions")] + list(counted(scene, rng))
        asked += [(image, scene, *prompt) for prompt in prompts]
    start = time.monotonic()
    answerer = Server(args.server) if args.server else Folder(args.folder, args.adapter)
    answers = answerer.answers([(image, prompt) for image, _, _, prompt, _ in asked])
    scores = Scores(args.decoder)
    for (_, scene, measure, prompt, truth), answer in zip(asked, answers):
        scores.add(measure, scene, prompt, truth, answer)
    print(scores.table())
    print(f"{args.scenes} scenes, {len(asked)} prompts in {time.monotonic() - start:.0f} s through {answerer.name}")


if __name__ == "__main__":
    main()
