"""Makes the small PaliGemma checkpoints under tests/goldens/model and transformers' answers on them.

python tools/goldens/make_model_goldens.py --out tests/goldens/model
"""

import argparse
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from safetensors.torch import save_file
from transformers.utils import logging

import ablations
import cases
import checkpoints as ck
import reference
import synthetic_tokenizer as tok
import weights


def write_preprocessor(folder, side):
    """preprocessor_config.json as published checkpoints have it."""
    config = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_seq_length": (side // 14) ** 2,
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "PaliGemmaProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": side, "width": side},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config, indent=2) + "\n")


def describe(checkpoint, model):
    """The traits that a reader of golden.json may want to select by."""
    text, vision = model.config.text_config, model.config.vision_config
    traits = {
        "name": checkpoint.name,
        "why": checkpoint.why,
        "seed": checkpoint.seed,
        "text_model_type": text.model_type,
        "dtype": checkpoint.dtype,
        "tensor_names": checkpoint.layout,
        "sharded": checkpoint.shard_bytes is not None,
        "hub_style_config": checkpoint.hub_config,
        "loc_and_seg_tokens": checkpoint.locations,
        "tokens": ck.VOCABULARY,
        "vocab_rows": ck.ROWS,
        "newline_id": ck.NEWLINE_ID,
        "image_size": vision.image_size,
        "image_tokens": text.num_image_tokens,
        "hidden_size": text.hidden_size,
        "layers": text.num_hidden_layers,
        "heads": text.num_attention_heads,
        "kv_heads": text.num_key_value_heads,
        "head_dim": text.head_dim,
        "vision_hidden_size": vision.hidden_size,
        "vision_head_dim": vision.hidden_size // vision.num_attention_heads,
    }
    if text.model_type == "gemma2":
        traits |= {
            "query_pre_attn_scalar": text.query_pre_attn_scalar,
            "sliding_window": text.sliding_window,
            "layer_types": text.layer_types,
        }
    return traits


def check_variety(records, answers, where):
    """Fails when answers repeat themselves or do not depend on the image, or padding never mattered."""
    by_prompt = {}
    for record in records:
        distinct = len(set(record["tokens"]))
        assert distinct >= 6, f"{where}: {record['prompt']!r} gives {distinct} distinct tokens"
        by_prompt.setdefault(record["prompt"], []).append(record["tokens"])
    for prompt, tokens in by_prompt.items():
        assert len({tuple(t) for t in tokens}) == len(tokens), f"{where}: {prompt!r} is the same for two images"
    assert sum(len(t) > 1 for t in by_prompt.values()) >= 2
    assert max(len(record["prompt_ids"]) for record in records) >= 80
    padded = torch.cat([a.steps.argmax(-1) >= ck.VOCABULARY for a in answers]).float().mean()
    assert padded > 0.05, f"{where}: an unmasked argmax would hit padding in {padded:.1%} of steps only"
    return float(padded)


def record(index, checkpoint, folder):
    """Asks the reference everything and writes golden.json and golden.safetensors. Returns a summary."""
    model = reference.load(folder)
    processor = reference.processor(folder)
    tokenizer = tok.reference()
    tensors, records, answers = {}, [], []
    images = cases.images(index, checkpoint.side)
    pixel_values = []
    for number, pixels in enumerate(images):
        pixel_values.append(reference.normalised(processor, pixels))
        tensors[f"image.{number}.pixels"] = torch.from_numpy(pixels.copy())
        with torch.no_grad():
            tensors[f"image.{number}.features"] = reference.features(model, pixel_values[-1])
    for number, (image, prompt) in enumerate(cases.prompts(index)):
        ids = tok.prompt_ids(tokenizer, prompt)
        reference.check_prompt_ids(processor, images[image], prompt, ids)
        answer = reference.answer(model, pixel_values[image], ids)
        name = f"case.{number}.logits"
        tensors[name] = answer.steps[0]
        records.append(
            {
                "image": image,
                "prompt": prompt,
                "prompt_ids": ids,
                "logits": name,
                "tokens": answer.tokens,
                "margins": answer.margins,
                "text": tokenizer.decode(answer.tokens, skip_special_tokens=True),
            }
        )
        answers.append(answer)
    padded = check_variety(records, answers, checkpoint.name)
    changes = {}
    for position in (0, 2):
        case = records[position]
        found = ablations.first_step(model, pixel_values[case["image"]], case["prompt_ids"])
        ablations.check(found, f"{checkpoint.name}, case {position}")
        if getattr(model.config.text_config, "sliding_window", None) in range(1, 64):
            late = ablations.window(model, pixel_values[case["image"]], case["prompt_ids"], case["tokens"])
            ablations.check(late, f"{checkpoint.name}, case {position}")
            found |= late
        changes = {mistake: min(change, changes.get(mistake, change)) for mistake, change in found.items()}
    write_golden(folder, checkpoint, model, records, tensors)
    return {"records": records, "padded": padded, "changes": changes}


def write_golden(folder, checkpoint, model, records, tensors):
    """golden.json with one case per line, and golden.safetensors."""
    made_with = {name: version(name) for name in ("transformers", "torch", "tokenizers", "numpy", "pillow")}
    lines = ",\n".join("    " + json.dumps(r, ensure_ascii=False) for r in records)
    (folder / "golden.json").write_text(
        "{\n"
        f'  "made_with": {json.dumps(made_with)},\n'
        f'  "checkpoint": {json.dumps(describe(checkpoint, model))},\n'
        f'  "cases": [\n{lines}\n  ]\n'
        "}\n",
        encoding="utf-8",
    )
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "golden.safetensors")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, required=True, help="folder that gets one folder a checkpoint")
    arguments.add_argument("--only", help="make this checkpoint alone")
    options = arguments.parse_args()
    torch.set_num_threads(1)  # the order of additions, and so the last bits, depend on it
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    margins = []
    for index, checkpoint in enumerate(ck.all_checkpoints()):
        if options.only not in (None, checkpoint.name):
            continue
        folder = options.out / checkpoint.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        weights.write(checkpoint, folder)
        tok.write(folder, checkpoint.locations)
        write_preprocessor(folder, checkpoint.side)
        summary = record(index, checkpoint, folder)
        own = [m for r in summary["records"] for m in r["margins"]]
        weakest = min(summary["changes"], key=summary["changes"].get)
        print(
            f"{checkpoint.name}: {len(summary['records'])} cases, smallest margin {min(own):.4f}, "
            f"padding wins {summary['padded']:.0%} of unmasked steps, "
            f"least visible mistake: {weakest} ({summary['changes'][weakest]:.3f})"
        )
        margins += own
    shares = {limit: sum(m < limit for m in margins) / len(margins) for limit in (1e-3, 1e-2)}
    print(f"{len(margins)} steps: {shares[1e-3]:.2%} of margins under 1e-3, {shares[1e-2]:.2%} under 1e-2")


if __name__ == "__main__":
    main()
