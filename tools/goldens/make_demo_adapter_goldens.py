"""Makes tests/goldens/adapters/demo-counting.json: what the demo says of the example pictures, with and without adapter.

python tools/goldens/make_demo_adapter_goldens.py
"""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers.image_utils import load_image
from transformers.utils import logging

import lora
import reference

ROOT = Path(__file__).resolve().parents[2]
BASE, ADAPTER = ROOT / "models/demo", ROOT / "models/demo-counting"
PICTURES = ROOT / "examples/images"
OUT = ROOT / "tests/goldens/adapters/demo-counting.json"
PROMPTS = ["cap en", "caption en"]
NEW_TOKENS = 64


@torch.no_grad()
def answer(model, processor, inputs):
    """The greedy answer up to `<eos>`, and the least lead of a token over the next best one in logits."""
    out = model.generate(
        **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    assert tokens[-1] == processor.tokenizer.eos_token_id, f"no end within {NEW_TOKENS} tokens"
    best = torch.cat(out.logits).topk(2).values
    return processor.tokenizer.decode(tokens, skip_special_tokens=True), float((best[:, 0] - best[:, 1]).min())


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    processor = reference.processor(BASE)
    models = {"base": reference.load(BASE), "adapter": lora.load(BASE, ADAPTER)}
    cases, margins = [], []
    for name in json.loads((PICTURES / "scenes.json").read_text()):
        image = load_image(str(PICTURES / name))  # upright, and RGB
        for prompt in PROMPTS:
            inputs = processor(images=image, text=prompt, return_tensors="pt")
            inputs.pop("labels", None)
            case = {"image": name, "prompt": prompt}
            for which, model in models.items():
                case[which], margin = answer(model, processor, inputs)
                margins.append((margin, which, name, prompt))
            assert case["base"] != case["adapter"], f"{name}: the adapter changes nothing"
            cases.append(case)
    lines = ",\n".join(" " + json.dumps(case, ensure_ascii=False) for case in cases)
    OUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for margin, which, name, prompt in sorted(margins)[:8]:
        print(f"margin {margin:.2f}: {which}, {name}, {prompt}")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
