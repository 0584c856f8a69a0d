"""Makes src/cli/doctor/goldens.json: the tokens with which transformers answers for the demo, some pictures and prompts.

python tools/goldens/make_doctor_goldens.py
"""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers.image_utils import load_image
from transformers.utils import logging

import reference

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "examples/images"
OUT = ROOT / "src/cli/doctor/goldens.json"
CASES = [
    ("red-circle.png", "caption en"),
    ("circle-and-square.jpg", "detect blue square"),
    ("three-hearts.png", "caption en"),
    ("four-shapes.png", "caption en"),
]
# The same for all, also beyond `<eos>`: so that they are fed together, step by step.
NEW_TOKENS = 24
# A lead over the next best token, in logits, that no rounding of f32 turns round.
LEAST_LEAD = 1e-3


@torch.no_grad()
def answer(model, processor, name, prompt):
    """The greedy tokens, and the least lead of one over the next best in logits."""
    inputs = processor(images=load_image(str(PICTURES / name)), text=prompt, return_tensors="pt")
    inputs.pop("labels", None)
    model.generation_config.eos_token_id = None
    out = model.generate(
        **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    best = torch.cat(out.logits).topk(2).values
    return tokens, float((best[:, 0] - best[:, 1]).min())


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    processor, model = reference.processor(ROOT / "models/demo"), reference.load(ROOT / "models/demo")
    cases = []
    for name, prompt in CASES:
        tokens, lead = answer(model, processor, name, prompt)
        assert len(tokens) == NEW_TOKENS and lead > LEAST_LEAD, f"{name}, {prompt}: {len(tokens)} tokens, lead {lead}"
        cases.append({"image": name, "prompt": prompt, "tokens": tokens})
        print(f"{name}, {prompt}: {processor.tokenizer.decode(tokens)!r}, lead {lead:.2f}")
    lines = ",\n".join(" " + json.dumps(case) for case in cases)
    OUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
