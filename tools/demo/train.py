"""Trains the demo: first the vision tower on dense labels, then the whole model on prompts and answers.

    python train.py --state DIR --from ../../models/demo --vision-minutes 20 --minutes 40 [--resume]

On the CPU, processes with one thread each share every step's batch, and minutes are the CPU time of one process. On a GPU
(`--device cuda`) one process trains, `--workers` draw for it, and minutes are those of the clock. The state in DIR is
written every few minutes and holds everything needed to resume; DIR/best.safetensors is the model with the best score on
the validation scenes.
"""

import argparse
import itertools
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
from data import TRAIN, Batches, pixels
from drawing import GROUPED_PROMPTS, PACKED, VISION, moved, steps
from losses import DenseHead, answer_loss
from validation import validate
from vqvae import MaskCodes

CODES = Path(__file__).with_name("mask_codes.json")  # of the decoder in models/demo
SAVE_SECONDS = 120
LOG_STEPS = 25
SEED_SCENES = 10**8  # batches between the first ones of two seeds
WARMUP, COOLDOWN = 0.03, 0.6  # shares of a stage at which the peak rate is reached, and left
PACKED_SHARE = 0.9  # of the second stage, in which a picture's prompts share its tokens
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
        self.model.to(args.device)
        self.model.set_attn_implementation("sdpa" if args.device == "cuda" else "sdpa_f32")
        self.see = partial(paligemma.image_features, self.model)
        self.think = partial(paligemma.hidden_states, self.model)
        self.think_alone = self.think  # of rows whose length changes, for which compiling does not pay
        if args.compile:
            self.see, self.think = torch.compile(self.see), torch.compile(self.think)
        width = paligemma.TEXT["hidden_size"]
        self.head = DenseHead(width, torch.Generator().manual_seed(args.seed + 1)).to(args.device)
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
        state = torch.load(self.args.state / "state.pt", self.args.device, weights_only=True)
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

    def vision_loss(self, step, width):
        with paligemma.autocast(self.model):
            features = self.see(pixels(step.images))
        return features, *self.head(features.float(), step.dense, self.loc_embedding(), width)

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
        with paligemma.autocast(self.model):
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

    def run_stage(self, stage, minutes, images, peak, parts):
        """Runs the parts of a stage, (what for, share of the minutes at which it ends, loss of a step) each.

        Every rank stops at the same step.
        """
        if self.progress["stage"] != stage:
            return
        batches = Batches(self.tokenizer, self.codes, TRAIN, images, self.args.prompts)
        for purpose, end, step_loss in parts:
            drawn = steps(batches, purpose, self.numbers(), self.args.workers)
            self.run_part(stage, drawn, 60 * minutes, end, peak, step_loss)
        self.finish(stage)

    def numbers(self):
        """Of this rank's next steps; the vision stage and each rank draw different scenes."""
        for step in itertools.count(self.progress["step"]):
            index = 2 * (step * self.args.processes + self.rank) + (self.progress["stage"] == "prompts")
            yield index + self.args.seed * SEED_SCENES

    def clock(self):
        """In seconds: CPU time on the CPU, as a machine that is busy with other work must not shorten the training."""
        return time.process_time() if self.args.device == "cpu" else time.monotonic()

    def run_part(self, stage, drawn, seconds, end, peak, step_loss):
        clock, saved, validated = self.clock(), time.monotonic(), time.monotonic()
        totals = {}
        for step in drawn:
            now, before, clock = time.monotonic(), clock, self.clock()
            spent = self.agreed(self.progress["seconds"][stage] + clock - before)
            self.progress["seconds"][stage] = spent
            share = spent / seconds
            if share >= end:
                break
            loss, parts = step_loss(moved(step, self.args.device), share)
            rate = learning_rate(share, peak)
            parts["norm"] = self.step(loss, rate)
            self.progress["step"] += 1
            self.progress["scenes"] += len(step.images) * self.args.processes
            for name, value in parts.items():
                totals.setdefault(name, []).append(value.detach())
            if self.rank == 0 and self.progress["step"] % LOG_STEPS == 0:
                means = " ".join(f"{k} {torch.stack(v).mean().item():.3f}" for k, v in totals.items())
                at = f"{time.strftime('%H:%M:%S')} {stage} {self.progress['step']} {spent / 60:.1f} min"
                print(f"{at} rate {rate:.5f} {means}", flush=True)
                totals = {}
            if self.rank == 0 and now - saved > SAVE_SECONDS:
                self.save()
                saved = now
            if self.rank == 0 and stage == "prompts" and now - validated > self.args.validation_seconds:
                self.score()
                validated = now

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

    def vision_step(self, step, share):
        _, loss, parts = self.vision_loss(step, loc_width(share, VISION_WIDTH))
        return loss, parts

    def packed_step(self, step, share):
        asked = step.packed.segment.amax(1).sum()
        return self.prompt_step(step, share, asked, lambda features: self.packed_answers(features, step.packed))

    def grouped_step(self, step, share):
        asked = sum(len(group.ids) for group in step.groups)
        return self.prompt_step(step, share, asked, lambda features: self.grouped_answers(features, step.groups))

    def prompt_step(self, step, share, asked, answered):
        width = loc_width(share, PROMPT_WIDTH)
        features, dense_loss, parts = self.vision_loss(step, width)
        logits, targets = answered(features)
        self.progress["prompts"] += int(asked) * self.args.processes
        answers = answer_loss(logits, targets, self.first_loc, self.first_seg, width)
        shown = {k: parts[k] for k in ("color", "kind", "order", "pose", "box_error", "letters", "read")}
        return answers + DENSE_WEIGHT * dense_loss, {"answers": answers, **shown}

    def run(self):
        args = self.args
        vision = [(VISION, 1, self.vision_step)]
        self.run_stage("vision", args.vision_minutes, args.vision_images, args.vision_rate, vision)
        prompts = [(PACKED, PACKED_SHARE, self.packed_step), (GROUPED_PROMPTS, 1, self.grouped_step)]
        self.run_stage("prompts", args.minutes, args.images, args.rate, prompts)
        if self.rank == 0:
            machine = f"{args.processes} threads of {platform.processor() or platform.machine()}; seconds are CPU time"
            machine = machine if args.device == "cpu" else torch.cuda.get_device_name()
            print(f"done on {machine}: {json.dumps(self.progress)}", flush=True)


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
    parser.add_argument("--validation-seconds", type=float, default=480, help="between two validations")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw, for each that trains")
    parser.add_argument("--processes", type=int, default=2, help="that train, on the CPU")
    parser.add_argument("--port", type=int, default=29517, help="on 127.0.0.1, for the processes to meet")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other scenes")
    args = parser.parse_args()
    if args.device == "cuda":
        args.processes = 1
    return args


if __name__ == "__main__":
    args = arguments()
    args.state.mkdir(parents=True, exist_ok=True)
    if args.processes == 1:
        worker(0, args)
    else:
        mp.spawn(worker, (args,), nprocs=args.processes)
