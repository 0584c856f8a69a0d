"""Makes the LoRA adapters under tests/goldens/adapters and peft's answers on them.

python tools/goldens/make_adapter_goldens.py --model tests/goldens/model --out tests/goldens/adapters
"""

import argparse
import copy
import json
import os
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

import ablations
import adapter_ablations
import adapter_refusals
import adapters as ad
import cases
import checkpoints as ck
import lora
import reference
import synthetic_tokenizer as tok

SAME = 1e-4
MARGIN = 1e-2


def questions(index):
    """(image, prompt) pairs: one prompt about two images, and another prompt."""
    task, foreign, *_ = cases.VARIED[index]
    return [(0, task), (1, task), (1, foreign)]


def describe(adapter, model, config, tensors, base_features, features):
    """The traits that a reader of golden.json may want to select by."""
    names = lora.layers(model)
    return {
        "name": adapter.name,
        "why": adapter.why,
        "seed": adapter.seed,
        "dtype": adapter.dtype,
        "tensor_names": adapter.layout,
        "tensors": len(tensors),
        "ranks": sorted({layer.r[lora.NAME] for layer in names.values()}),
        "adapted": sorted({name.rpartition(".")[2] for name in names}),
        "modules_to_save": config["modules_to_save"] or [],
        "use_rslora": config["use_rslora"],
        "lora_bias": config["lora_bias"],
        "changes_image_features": not all(torch.equal(a, b) for a, b in zip(base_features, features)),
        "can_be_merged_by_peft": adapter.merges,
    }


def check_merged(model, adapter, pixel_values, records, answers):
    """Fails unless peft's merging, in f32, gives the same answers; or other ones where it must not be trusted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            merged = copy.deepcopy(model).merge_and_unload()
        except RuntimeError as error:
            assert not adapter.merges and "base layer has no bias" in str(error), error
            return
    for case, right in zip(records, answers):
        arguments = reference.inputs(merged, pixel_values[case["image"]], case["prompt_ids"])
        difference = reference.relative(reference.logits_at(merged, arguments), right.steps[0])
        if not adapter.merges:
            assert difference > ablations.VISIBLE, f"{adapter.name}: merging gives the same ({difference})"
            continue
        assert difference < SAME, f"{adapter.name}: merged logits differ by {difference}"
        answer = reference.answer(merged, pixel_values[case["image"]], case["prompt_ids"])
        assert answer.tokens == case["tokens"], f"{adapter.name}: other tokens when merged"


def check_written(adapter, base_folder, folder, model, arguments):
    """Fails if peft reads the adapter's files otherwise. Returns whether it reads them at all."""
    try:
        read = lora.load(base_folder, folder).get_base_model()
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        assert adapter.layout != ad.V5, error
        return False
    right = reference.logits_at(model, arguments)
    difference = reference.relative(reference.logits_at(read, arguments), right)
    assert difference == 0, f"{adapter.name}: peft reads the written files otherwise ({difference})"
    return True


def ask(model, index, base_folder, pixel_values):
    """The cases, the answers, and the tensors of golden.safetensors."""
    tokenizer = tok.reference()
    with torch.no_grad():
        tensors = {f"image.{n}.features": reference.features(model, p) for n, p in enumerate(pixel_values)}
    records, answers = [], []
    for number, (image, prompt) in enumerate(questions(index)):
        ids = tok.prompt_ids(tokenizer, prompt)
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
    return records, answers, tensors


def check_variety(records, answers, others, where):
    """Fails when answers repeat themselves, or are those of the base or of another adapter."""
    assert records[0]["tokens"] != records[1]["tokens"], f"{where}: two images give the same"
    for number, (case, answer) in enumerate(zip(records, answers)):
        distinct = len(set(case["tokens"]))
        assert distinct >= 6, f"{where}: case {number} has {distinct} distinct tokens"
        assert min(case["margins"]) > MARGIN, f"{where}: case {number} has a margin of {min(case['margins'])}"
        for other, theirs in others.items():
            difference = reference.relative(answer.steps[0], theirs[number].steps[0])
            assert difference > 0.1, f"{where}: case {number} is {other}'s up to {difference}"
            assert case["tokens"] != theirs[number].tokens, f"{where}: case {number} has {other}'s tokens"


def make(adapter, base_folder, folder, others):
    """Writes one adapter and its goldens. `others`: name → answers of the base and of its other adapters."""
    index = [c.name for c in ck.all_checkpoints()].index(adapter.base)
    base = reference.load(base_folder)
    base_tensors = load_file(base_folder / "golden.safetensors")
    processor = reference.processor(base_folder)
    images = [base_tensors[f"image.{n}.pixels"].numpy() for n in range(2)]
    pixel_values = [reference.normalised(processor, image) for image in images]
    if not others:
        others["the base"] = ask(base, index, base_folder, pixel_values)[1]

    made = lora.make(adapter, base_folder)
    with tempfile.TemporaryDirectory() as plain:
        lora.save(made, adapter, Path(plain))
        folder.mkdir()
        for file in Path(plain).iterdir():
            shutil.copyfile(file, folder / file.name)
        peft_model = lora.load(base_folder, plain)
    model = peft_model.get_base_model()
    for (name, own), (_, read) in zip(made.named_parameters(), peft_model.named_parameters(), strict=True):
        assert torch.equal(own, read), f"{adapter.name}: {name} changes when written and read"
    tensors, config = lora.rewrite(adapter, folder)
    lora.check_patterns(model, adapter, config)
    lora.check_base_copies(tensors, adapter, base_folder)
    lora.check_tied(tensors, config)

    records, answers, golden = ask(model, index, base_folder, pixel_values)
    arguments = reference.inputs(model, pixel_values[0], records[0]["prompt_ids"])
    read_by_peft = check_written(adapter, base_folder, folder, model, arguments)
    check_variety(records, answers, others, adapter.name)
    check_merged(peft_model, adapter, pixel_values, records, answers)
    others[adapter.name] = answers
    changes = {}
    own_config = peft_model.peft_config[lora.NAME].to_dict() | {"fan_in_fan_out": config["fan_in_fan_out"]}
    for case in (records[0], records[1]):
        found = adapter_ablations.changes(model, own_config, pixel_values[case["image"]], case["prompt_ids"])
        changes = {mistake: min(change, changes.get(mistake, change)) for mistake, change in found.items()}
    ablations.check(changes, adapter.name)

    with torch.no_grad():
        base_features = [reference.features(base, p) for p in pixel_values]
    for number, features in enumerate(base_features):
        assert reference.relative(features, base_tensors[f"image.{number}.features"]) < SAME
    features = [golden[f"image.{n}.features"] for n in range(2)]
    traits = describe(adapter, model, config, tensors, base_features, features)
    write_golden(folder, adapter, traits, records, golden)
    return changes, read_by_peft, min(m for r in records for m in r["margins"])


def write_golden(folder, adapter, traits, records, tensors):
    """golden.json with one case per line, and golden.safetensors."""
    made_with = {name: version(name) for name in ("peft", "transformers", "torch", "tokenizers", "numpy")}
    lines = ",\n".join("    " + json.dumps(r, ensure_ascii=False) for r in records)
    (folder / "golden.json").write_text(
        "{\n"
        f'  "made_with": {json.dumps(made_with)},\n'
        f'  "base": {json.dumps(adapter.base)},\n'
        f'  "adapter": {json.dumps(traits)},\n'
        f'  "cases": [\n{lines}\n  ]\n'
        "}\n",
        encoding="utf-8",
    )
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "golden.safetensors")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", type=Path, required=True, help="folder of the base checkpoints")
    arguments.add_argument("--out", type=Path, required=True, help="folder that gets one folder an adapter")
    options = arguments.parse_args()
    torch.set_num_threads(1)  # the order of additions, and so the last bits, depend on it
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in options.out.glob("*/"):  # files are other scripts'
        shutil.rmtree(folder)
    others = {}
    for adapter in ad.all_adapters():
        changes, read, margin = make(
            adapter, options.model / adapter.base, options.out / adapter.name, others.setdefault(adapter.base, {})
        )
        weakest = min(changes, key=changes.get)
        print(
            f"{adapter.name}: smallest margin {margin:.4f}, {len(changes)} mistakes, least visible: {weakest} "
            f"({changes[weakest]:.3f}), {'read' if read else 'not read'} by peft under these names"
        )
    print(f"{adapter_refusals.make(options.model, options.out / 'refused')} adapters to refuse")


if __name__ == "__main__":
    main()
