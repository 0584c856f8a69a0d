"""Trains a LoRA adapter with peft that lets the demo's captions count: `2 circles, 1 star`.

    python train_adapter.py --base ../../models/demo --out ../../models/demo-counting --minutes 10

It runs on one thread of a CPU; minutes are its CPU time, the drawing of the pictures included. Only the language model
is adapted, so image features stay those of the base.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import PaliGemmaForConditionalGeneration

import model as paligemma
import scenes
from counting import CountingBatches
from data import TRAIN, pixels
from losses import answer_loss
from train import CODES, SEED_SCENES, learning_rate
from vqvae import MaskCodes

RANK, ALPHA = 8, 16
# The usual names, of the language model alone: the vision tower has a q_proj, k_proj and v_proj as well.
MODULES = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
ROW = 128  # tokens of one picture's packed prompts
PACKED_SHARE = 0.85  # of the training, in which a picture's prompts share its tokens
PROMPTS, GROUPED, GROUPS = 7, 3, 2  # prompts of a picture, also in the last part, there in so many groups by length
LOC_WIDTH = 1.5  # of the loc targets in bins, as at the end of the base's training
LOG_STEPS = 25


class Trainer:
    def __init__(self, args):
        self.args = args
        self.tokenizer = Tokenizer.from_file(str(args.base / "tokenizer.json"))
        base = PaliGemmaForConditionalGeneration.from_pretrained(args.base, dtype=torch.float32)
        base.set_attn_implementation("sdpa_f32")
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES, task_type="CAUSAL_LM")
        self.adapted = get_peft_model(base, config)
        self.model = self.adapted.get_base_model()
        self.parameters = [p for p in self.adapted.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, args.rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.first_loc = self.tokenizer.token_to_id("<loc0000>")
        self.first_seg = self.tokenizer.token_to_id("<seg000>")
        self.batches = CountingBatches(self.tokenizer, MaskCodes(CODES), TRAIN, args.images, PROMPTS)

    def features(self, drawn):
        images = torch.stack([torch.tensor(scenes.seen(scene, paligemma.IMAGE_SIZE)) for scene in drawn])
        with torch.no_grad(), paligemma.autocast(self.model):
            return paligemma.image_features(self.model, pixels(images))

    def guesses(self, features, prompts, mask, position=None):
        """Logits and targets of the answers' tokens."""
        asked = prompts.targets >= 0
        with paligemma.autocast(self.model):
            states = paligemma.hidden_states(self.model, features, prompts.ids, mask, position)
            return (states[asked] @ self.model.lm_head.weight.t()).float(), prompts.targets[asked]

    def packed(self, features, drawn, index):
        packed = self.batches.packed(drawn, index, ROW)
        mask = paligemma.packed_mask(packed.segment, packed.is_prompt)
        return self.guesses(features, packed, mask, packed.position)

    def grouped(self, features, drawn, index):
        """Each prompt beside its own picture, as the model is used."""
        parts = []
        for group in self.batches.groups(drawn, index, GROUPS, GROUPED):
            mask = paligemma.prefix_lm_mask(group.prefix, paligemma.IMAGE_TOKENS + group.ids.shape[1])
            parts.append(self.guesses(features[group.image], group, mask))
        return [torch.cat(part) for part in zip(*parts)]

    def run(self):
        seconds, shown = 60 * self.args.minutes, []
        begun = time.process_time()
        for step in itertools.count():
            share = (time.process_time() - begun) / seconds
            if share >= 1:
                return step
            index = self.args.seed * SEED_SCENES + step
            drawn = self.batches.scenes(index)
            answers = self.packed if share < PACKED_SHARE else self.grouped
            logits, targets = answers(self.features(drawn), drawn, index)
            loss = answer_loss(logits, targets, self.first_loc, self.first_seg, LOC_WIDTH)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(share, self.args.rate)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            spoken = targets < self.first_loc  # words and numbers
            right = (logits.detach().argmax(-1) == targets)[spoken].float().mean()
            shown.append(torch.stack([loss.detach(), right]))
            if (step + 1) % LOG_STEPS == 0:
                mean = torch.stack(shown).mean(0).tolist()
                at = f"{share * self.args.minutes:.1f} min, step {step + 1}"
                print(f"{at}: loss {mean[0]:.3f}, words right {mean[1]:.4f}", flush=True)
                shown = []

    def save(self):
        """Writes the adapter in bf16."""
        for parameter in self.parameters:
            parameter.data = parameter.data.to(torch.bfloat16)
        card = self.args.out / "README.md"
        kept = card.read_bytes() if card.exists() else None
        self.adapted.save_pretrained(self.args.out)
        # peft writes a model card with nothing in it.
        card.unlink() if kept is None else card.write_bytes(kept)
        path = self.args.out / "adapter_config.json"
        config = json.loads(path.read_text()) | {"base_model_name_or_path": self.args.base.name}
        path.write_text(json.dumps(config, indent=2) + "\n")
        for file in self.args.out.iterdir():
            file.chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="checkpoint that the adapter is for")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--minutes", type=float, default=10, help="CPU time")
    parser.add_argument("--images", type=int, default=8, help="a step")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=40, help="another one draws other scenes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    trainer = Trainer(args)
    steps = trainer.run()
    trainer.save()
    size = sum(p.numel() for p in trainer.parameters)
    print(f"{steps} steps of {args.images} pictures; {size} parameters in {args.out}")


if __name__ == "__main__":
    main()
