"""Makes the checkpoints quantised by bitsandbytes under tests/goldens/quantized and transformers' answers on them.

python tools/goldens/make_quantized_goldens.py --model tests/goldens/model --adapters tests/goldens/adapters --out tests/goldens/quantized
"""

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import bitsandbytes as bnb
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration
from transformers.utils import logging

import checkpoints as ck
import lora
import reference
from make_adapter_goldens import ask

MARGIN = 1e-4
# Weights whose every number is kept. The vision tower's has no whole number of blocks, v_proj of the language model
# more of them than share a scale when the scales are quantised.
KEPT = [
    "model.language_model.layers.0.mlp.down_proj",
    "model.language_model.layers.0.self_attn.v_proj",
    "model.vision_tower.encoder.layers.0.self_attn.v_proj",
    "model.multi_modal_projector.linear",
]


@dataclass
class Quantized:
    name: str
    why: str
    base: str
    # Arguments of BitsAndBytesConfig.
    config: dict
    # An adapter that is put on top, in a second golden.
    adapter: str | None = None


ALL = [
    Quantized(
        name="nf4",
        why="NF4 with scales in f32, and an adapter on top; f32",
        base="pg1-hub",
        config={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        adapter="pg1-usual-bf16",
    ),
    Quantized(
        name="nf4-double",
        why="NF4 with scales that are quantised themselves, codes stored as bf16 (bnb_4bit_quant_storage); bf16",
        base="pg2-hub-bf16-sharded",
        config={
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_quant_storage": torch.bfloat16,
        },
    ),
    Quantized(
        name="fp4",
        why="FP4 with scales in f32; bf16",
        base="pg1-hub-bf16-sharded",
        config={"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    ),
    Quantized(
        name="int8",
        why="LLM.int8: a scale for every output; bf16",
        base="pg1-hub-bf16-sharded",
        config={"load_in_8bit": True},
    ),
]


def quantize(quantized, base_folder, folder):
    """Writes what transformers saves of the quantised model."""
    model = PaliGemmaForConditionalGeneration.from_pretrained(
        base_folder,
        quantization_config=BitsAndBytesConfig(**quantized.config),
        device_map={"": "cpu"},
        dtype="auto",
    )
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def four_bit(weight):
    """A 4-bit weight's numbers by bitsandbytes' own formula in Python.

    Its kernel for CPUs with AVX-512 (0.50.2) takes the wrong block's scale where the input's width is a multiple of 16
    and not of the block's size, so it is not asked there.
    """
    state = weight.quant_state
    scales = state.absmax
    if state.nested:
        scales = bnb.functional.dequantize_blockwise(scales, state.state2) + state.offset
    codes = weight.data.view(torch.uint8).flatten()
    found = _dequantize_4bit_compute(codes, scales, state.code, state.blocksize, state.shape, state.dtype)
    if state.shape[-1] % state.blocksize == 0:
        assert torch.equal(found, bnb.functional.dequantize_4bit(weight.data, state))
    return found


def weights(folder):
    """Name of a module → its weight as bitsandbytes dequantises what lies in the folder."""
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, device_map={"": "cpu"}, dtype="auto")
    found = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, bnb.nn.Linear4bit):
            found[name] = four_bit(weight)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            found[name] = bnb.functional.int8_vectorwise_dequant(weight.data, weight.SCB)
    return found


def dequantized(base_folder, values):
    """The base in f32, with these weights in the place of its own."""
    model = reference.load(base_folder)
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert linear - {"lm_head"} == set(values), linear ^ set(values)
    with torch.no_grad():
        for name, weight in values.items():
            own = model.get_submodule(name).weight
            assert own.shape == weight.shape and not torch.equal(own, weight.float()), name
            assert reference.relative(weight.float(), own) < 0.2, f"{name} is not what was quantised"
            own.copy_(weight)
    return model


def check(records, answers, others, where):
    """Fails when an answer could come about by chance, or without what it is to show."""
    assert records[0]["tokens"] != records[1]["tokens"], f"{where}: two images give the same"
    for number, (case, answer) in enumerate(zip(records, answers)):
        assert len(set(case["tokens"])) >= 4, f"{where}: case {number} repeats itself"
        assert min(case["margins"]) > MARGIN, f"{where}: case {number} has a margin of {min(case['margins'])}"
        difference = reference.relative(answer.steps[0], others[number].steps[0])
        assert difference > 5e-3, f"{where}: case {number} differs by {difference} only"
        print(f"{where}, case {number}: {difference:.1%} from the other, least margin {min(case['margins']):.3f}")


def write(folder, about, records, tensors):
    """golden.json with one case per line, and golden.safetensors."""
    made_with = {name: version(name) for name in ("bitsandbytes", "transformers", "peft", "torch", "numpy")}
    lines = ",\n".join("    " + json.dumps(r, ensure_ascii=False) for r in records)
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in about.items())
    (folder / "golden.json").write_text(
        f'{{\n  "made_with": {json.dumps(made_with)},\n{head}  "cases": [\n{lines}\n  ]\n}}\n', encoding="utf-8"
    )
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "golden.safetensors")
    (folder / "golden.safetensors").chmod(0o644)


def make(quantized, options):
    """Writes one quantised checkpoint and its goldens."""
    base_folder = options.model / quantized.base
    folder = options.out / quantized.name
    folder.mkdir()
    index = [c.name for c in ck.all_checkpoints()].index(quantized.base)
    processor = reference.processor(base_folder)
    images = load_file(base_folder / "golden.safetensors")
    pixel_values = [reference.normalised(processor, images[f"image.{n}.pixels"].numpy()) for n in range(2)]

    quantize(quantized, base_folder, folder)
    values = weights(folder)
    model = dequantized(base_folder, values)
    base_answers = ask(reference.load(base_folder), index, base_folder, pixel_values)[1]
    records, answers, tensors = ask(model, index, base_folder, pixel_values)
    check(records, answers, base_answers, quantized.name)
    tensors |= {f"weight.{name.removeprefix('model.')}": values[name] for name in KEPT}
    write(folder, {"why": quantized.why, "base": quantized.base}, records, tensors)

    if quantized.adapter:
        with tempfile.TemporaryDirectory() as plain:
            model.save_pretrained(plain)
            adapted = lora.load(plain, options.adapters / quantized.adapter).get_base_model()
        above = options.out / f"{quantized.name}-with-adapter"
        above.mkdir()
        records, more, tensors = ask(adapted, index, base_folder, pixel_values)
        check(records, more, answers, above.name)
        about = {"why": "an adapter on " + quantized.name, "base": quantized.name, "with_adapter": quantized.adapter}
        write(above, about, records, tensors)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", type=Path, required=True, help="folder of the checkpoints to quantise")
    arguments.add_argument("--adapters", type=Path, required=True, help="folder of their adapters")
    arguments.add_argument("--out", type=Path, required=True, help="folder that gets one folder a checkpoint")
    options = arguments.parse_args()
    torch.set_num_threads(1)  # the order of additions, and so the last bits, depend on it
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    for quantized in ALL:
        make(quantized, options)


if __name__ == "__main__":
    main()
