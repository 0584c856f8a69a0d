"""Writes a trained model as a checkpoint in the hub's layout.

    python export.py --weights STATE/best.safetensors --decoder DIR/vae-oid.safetensors --out ../../models/demo
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

import model as paligemma
import tokenizer as vocabulary

LIMIT = 10_000_000  # bytes of weights, tokenizer and decoder

PREPROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_seq_length": paligemma.IMAGE_TOKENS,
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "PaliGemmaProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": paligemma.IMAGE_SIZE, "width": paligemma.IMAGE_SIZE},
}


def export(weights, decoder, out):
    """Writes the folder and returns its size in bytes."""
    model, _ = paligemma.build()
    missing, unexpected = model.load_state_dict(load_file(weights), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"{weights} is of another model: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.max_new_tokens = None
    model.to(torch.bfloat16).save_pretrained(out)
    vocabulary.write(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    shutil.copyfile(decoder, out / "vae-oid.safetensors")
    for file in out.iterdir():
        file.chmod(0o644)
    return sum(file.stat().st_size for file in out.iterdir())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    size = export(args.weights, args.decoder, args.out)
    print(f"{args.out}: {size} bytes")
    if size > LIMIT:
        raise SystemExit(f"that is over the limit of {LIMIT} bytes")
