"""Trains the demo: first the vision tower on dense labels, then the whole model on prompts and answers.

    python train.py --state DIR --from ../../models/demo --vision-minutes 20 --minutes 40 [--resume]

Processes with one thread each share every step's batch; minutes are the CPU time of one process. The state in DIR is
written every few minutes and holds everything needed to resume; DIR/best.safetensors is the model with the best score on
the validation scenes.
"""

import argparse
import json
import math
import os
import platform
import time
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file

import model as paligemma
from data import TRAIN, Batches
from losses import DenseHead, answer_loss
from validation import validate
from vqvae import MaskCodes

CODES = Path(__file__).with_name("mask_codes.json")  # of the decoder in models/demo
SAVE_SECONDS = 120
VALIDATE_SECONDS = 480
LOG_STEPS = 25
GROUPS, GROUPED = 3, 4  # of prompts of about one length, and how many of them a picture has in the last part
SEED_SCENES = 10**8  # batches between the first ones of two seeds
ROW = 256  # tokens of one picture's packed prompts
WARMUP, COOLDOWN = 0.03, 0.6  # shares of a stage at which the peak rate is reached, and left
PACKED = 0.9  # share of the second stage in which a picture's prompts share its tokens
# Width of the loc targets in bins at a stage's begin and end. While it is large, no bin is likely by itself, and an answer
# to `detect` ends at once if there is a small chance that nothing is there; so it ends narrow.
VISION_WIDTH, PROMPT_WIDTH = (40, 8), (16, 1.5)
DENSE_WEIGHT = 0.2  # of the dense loss while prompts are trained


def learning_rate(progress, peak):
    """Linear warm-up, the peak, and a cosine to 2 % of it at the end; `progress` in 0..1.

    Most of a stage runs at one rate, so its end can be moved while it runs.
    """
    if progress < WARMUP:
        return peak * progress / WARMUP
    share = max(progress - COOLDOWN, 0) / (1 - COOLDOWN)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))


def loc_width(progress, ends):
    """From the first width to the second, evenly in proportion, reached at the cooldown."""
    share = min(progress / COOLDOWN, 1)
    return ends[0] * (ends[1] / ends[0]) ** share


class Trainer:
    def __init__(self, args, rank):
        self.args, self.rank = args, rank
        self.model, self.tokenizer = paligemma.build(args.seed)
        if args.take_over:
            paligemma.take_over(self.model, self.tokenizer, args.take_over)
        self.model.set_attn_implementation("sdpa_f32")
        self.see = partial(paligemma.image_features, self.model)
        self.think = partial(paligemma.hidden_states, self.model)
        self.think_alone = self.think  # of rows whose length changes, for which compiling does not pay
        if args.compile:
            self.see, self.think = torch.compile(self.see), torch.compile(self.think)
        width = paligemma.TEXT["hidden_size"]
        self.head = DenseHead(width, torch.Generator().manual_seed(args.seed + 1))
        self.first_loc = self.tokenizer.token_to_id("<loc0000>")
        self.first_seg = self.tokenizer.token_to_id("<seg000>")
        self.codes = MaskCodes(args.codes)
        self.parameters = list(self.model.parameters()) + list(self.head.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, 1e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.progress = {"stage": "vision", "step": 0, "seconds": {"vision": 0.0, "prompts": 0.0}, "best": -1.0}
        self.progress |= {"scenes": 0, "prompts": 0}
        if args.resume:
            self.load()

    # State

    def load(self):
        state = torch.load(self.args.state / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = state["progress"]

    def save(self):
        state = {"model": self.model.state_dict(), "head": self.head.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "progress": self.progress}
        partial = self.args.state / "state.pt.partial"
        torch.save(state, partial)
        partial.rename(self.args.state / "state.pt")

    def save_best(self, score):
        self.progress["best"] = score
        partial = self.args.state / "best.partial"
        save_file({k: v.contiguous() for k, v in self.model.state_dict().items() if k != "lm_head.weight"}, partial)
        partial.rename(self.args.state / "best.safetensors")

    # Steps

    def vision_loss(self, images, dense, width):
        with torch.autocast("cpu", torch.bfloat16):
            features = self.see(images)
        return features, *self.head(features.float(), dense, self.loc_embedding(), width)

    def loc_embedding(self):
        first = self.first_loc
        # The final states that these meet in the language model have a length of sqrt(hidden).
        return self.model.lm_head.weight[first : first + 1024]

    def grouped_answers(self, features, groups):
        """Logits and targets of the answers, each prompt beside its own picture, as the model is used."""
        logits, targets = [], []
        for group in groups:
            mask = paligemma.prefix_lm_mask(group.prefix, paligemma.IMAGE_TOKENS + group.ids.shape[1])
            logits.append(self.answer_logits(self.think_alone, features[group.image], group, mask))
            targets.append(group.targets[group.targets >= 0])
        return torch.cat(logits), torch.cat(targets)

    def packed_answers(self, features, packed):
        """The same for all prompts behind one copy of their picture: a third of the work."""
        mask = paligemma.packed_mask(packed.segment, packed.is_prompt)
        logits = self.answer_logits(self.think, features, packed, mask, packed.position)
        return logits, packed.targets[packed.targets >= 0]

    def answer_logits(self, think, features, prompts, mask, position=None):
        with torch.autocast("cpu", torch.bfloat16):
            states = think(features, prompts.ids, mask, position)
            return (states[prompts.targets >= 0] @ self.model.lm_head.weight.t()).float()

    def step(self, loss, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        used = [p for p in self.parameters if p.grad is not None]
        if dist.is_initialized():
            flat = torch.cat([p.grad.flatten() for p in used])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            for p, grad in zip(used, flat.split([p.numel() for p in used])):
                p.grad.copy_(grad.view_as(p))
        norm = torch.nn.utils.clip_grad_norm_(used, 1.0)
        self.optimizer.step()
        return norm

    def run_stage(self, stage, minutes, images, peak, step_loss):
        """Steps until the stage's minutes of CPU time are over; every rank stops at the same step.

        CPU time, as a machine that is busy with other work must not shorten the training.
        """
        if self.progress["stage"] != stage:
            return
        batches = Batches(self.tokenizer, self.codes, TRAIN, images, self.args.prompts)
        clock = time.process_time()
        saved = validated = time.monotonic()
        totals = {}
        while True:
            now, before, clock = time.monotonic(), clock, time.process_time()
            spent = self.agreed(self.progress["seconds"][stage] + clock - before)
            self.progress["seconds"][stage] = spent
            share = spent / (minutes * 60)
            if share >= 1:
                break
            # The vision stage and each rank draw different scenes.
            index = 2 * (self.progress["step"] * self.args.processes + self.rank) + (stage == "prompts")
            index += self.args.seed * SEED_SCENES
            loss, parts = step_loss(batches, index, share)
            rate = learning_rate(share, peak)
            norm = self.step(loss, rate)
            self.progress["step"] += 1
            self.progress["scenes"] += images * self.args.processes
            parts["norm"] = norm
            for name, value in parts.items():
                totals.setdefault(name, []).append(float(value.detach()))
            if self.rank == 0 and self.progress["step"] % LOG_STEPS == 0:
                means = " ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in totals.items())
                at = f"{time.strftime('%H:%M:%S')} {stage} {self.progress['step']} {spent / 60:.1f} min"
                print(f"{at} rate {rate:.5f} {means}", flush=True)
                totals = {}
            if self.rank == 0 and now - saved > SAVE_SECONDS:
                self.save()
                saved = now
            if self.rank == 0 and stage == "prompts" and now - validated > VALIDATE_SECONDS:
                self.score()
                validated = now
        self.finish(stage)

    def finish(self, stage):
        self.progress["stage"] = "prompts"
        if self.rank == 0:
            if stage == "prompts":
                self.score()
            self.save()

    def agreed(self, seconds):
        """Rank 0's clock."""
        if not dist.is_initialized():
            return seconds
        clock = torch.tensor([seconds], dtype=torch.float64)
        dist.broadcast(clock, 0)
        return clock.item()

    def score(self):
        scores = validate(self.model, self.tokenizer, self.codes, self.args.validation_images)
        print("validation " + json.dumps(scores), flush=True)
        if scores["score"] > self.progress["best"]:
            self.save_best(scores["score"])

    def vision_step(self, batches, index, share):
        images, dense = batches.pictures(batches.scenes(index))
        _, loss, parts = self.vision_loss(images, dense, loc_width(share, VISION_WIDTH))
        return loss, parts

    def prompt_step(self, batches, index, share):
        drawn = batches.scenes(index)
        images, dense = batches.pictures(drawn)
        width = loc_width(share, PROMPT_WIDTH)
        features, dense_loss, parts = self.vision_loss(images, dense, width)
        if share < PACKED:
            packed = batches.packed(drawn, index, ROW)
            logits, targets = self.packed_answers(features, packed)
            asked = int(packed.segment.amax(1).sum())
        else:
            groups = batches.groups(drawn, index, GROUPS, GROUPED)
            logits, targets = self.grouped_answers(features, groups)
            asked = sum(len(group.ids) for group in groups)
        self.progress["prompts"] += asked * self.args.processes
        answers = answer_loss(logits, targets, self.first_loc, self.first_seg, width)
        shown = {k: parts[k] for k in ("color", "kind", "order", "pose", "box_error", "letters", "read")}
        return answers + DENSE_WEIGHT * dense_loss, {"answers": answers, **shown}

    def run(self):
        args = self.args
        self.run_stage("vision", args.vision_minutes, args.vision_images, args.vision_rate, self.vision_step)
        self.run_stage("prompts", args.minutes, args.images, args.rate, self.prompt_step)
        if self.rank == 0:
            machine = f"{args.processes} threads of {platform.processor() or platform.machine()}"
            print(f"done on {machine}; seconds are CPU time of each: {json.dumps(self.progress)}", flush=True)


def worker(rank, args):
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    if args.processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(args.port)}
        dist.init_process_group("gloo", rank=rank, world_size=args.processes)
    Trainer(args, rank).run()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder for state.pt and best.safetensors")
    parser.add_argument("--codes", type=Path, default=CODES, help="mask codes that vqvae.py wrote")
    parser.add_argument("--from", dest="take_over", type=Path, metavar="FOLDER", help="checkpoint to begin with")
    parser.add_argument("--compile", action="store_true", help="compile the model: quicker, but needs a C++ compiler")
    parser.add_argument("--resume", action="store_true", help="resume from state.pt")
    parser.add_argument("--vision-minutes", type=float, default=10, help="CPU time a process")
    parser.add_argument("--minutes", type=float, default=45, help="the same for the second stage")
    parser.add_argument("--vision-images", type=int, default=32, help="a step and process")
    parser.add_argument("--images", type=int, default=8, help="a step and process")
    parser.add_argument("--prompts", type=int, default=11, help="an image")
    parser.add_argument("--vision-rate", type=float, default=2e-3)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--validation-images", type=int, default=160)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--port", type=int, default=29517, help="on 127.0.0.1, for the processes to meet")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other scenes")
    return parser.parse_args()


if __name__ == "__main__":
    args = arguments()
    args.state.mkdir(parents=True, exist_ok=True)
    if args.processes == 1:
        worker(0, args)
    else:
        mp.spawn(worker, (args,), nprocs=args.processes)
