"""Small adapters that must not be loaded, and a manifest that says what is wrong with each."""

import json
import shutil

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import adapters as ad
import lora
import reference

BASE = "pg1-hub"
LAYER = "base_model.model.model.language_model.layers.0.self_attn.v_proj"
TARGET = r"model\.language_model\.layers\.0\.self_attn\.v_proj"
CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


def _plain(rank=2):
    """A, B and the configuration's rank of the adapter that all hand-made cases start from."""
    generator = torch.Generator().manual_seed(rank)
    return {
        f"{LAYER}.lora_A.weight": torch.randn(rank, 24, generator=generator),
        f"{LAYER}.lora_B.weight": torch.randn(256, rank, generator=generator),
    }


def _moved(tensors, old, new):
    return {key.replace(old, new): tensor.clone() for key, tensor in tensors.items()}


def _variants():
    """(folder, what is wrong, words that an error should have, fields of the configuration, tensors)."""
    a, b = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"
    plain = _plain()
    old_names = {ad.renamed_key(key, ad.V4_OLD): tensor for key, tensor in _plain().items()}
    bias = {f"{LAYER}.lora_B.bias": torch.zeros(256)}
    return [
        ("another-layer", "no layer 99 in the base", ["layers.99"], {},
         plain | _moved(plain, "layers.0.", "layers.99.")),
        ("another-module", "no module of that name in the base", ["c_attn"], {}, _moved(plain, "v_proj", "c_attn")),
        ("another-model", "keys of a language model alone: none matches", [LAYER.split(".", 4)[-1]], {},
         _moved(plain, "model.model.language_model.", "model.model.")),
        ("narrow-a", "A is 20 wide, the layer's input 24", ["lora_A"], {}, plain | {a: torch.ones(2, 20)}),
        ("short-b", "B has 255 rows, the layer's output 256", ["lora_B"], {}, plain | {b: torch.ones(255, 2)}),
        ("transposed", "A and B transposed", ["lora_"], {}, {k: t.T.contiguous() for k, t in plain.items()}),
        ("ranks-of-a-and-b", "A has rank 2 and B rank 3", ["lora_B"], {}, plain | {b: torch.ones(256, 3)}),
        ("rank-of-config", "the configuration says r 4, the file has rank 2", ["v_proj", "4", "2"], {"r": 4}, plain),
        ("rank-of-pattern", "rank_pattern says 3, the file has rank 2", ["v_proj", "3", "2"],
         {"rank_pattern": {"v_proj": 3}}, plain),
        ("a-alone", "A without its B", ["lora_B"], {}, {a: plain[a]}),
        ("b-alone", "B without its A", ["lora_A"], {}, {b: plain[b]}),
        ("unknown-key", "a kind of tensor that LoRA does not have", ["lora_C"], {},
         plain | {f"{LAYER}.lora_C.weight": torch.ones(2, 2)}),
        ("twice", "one layer under the names of two versions of transformers", ["v_proj"], {}, plain | old_names),
        ("saved-shape", "a saved module of another shape", ["linear.weight"], {"modules_to_save": ["linear"]},
         plain | {"base_model.model.model.multi_modal_projector.linear.weight": torch.ones(24, 30),
                  "base_model.model.model.multi_modal_projector.linear.bias": torch.ones(24)}),
        ("bias-missing", "lora_bias without any bias in the file", ["lora_bias"], {"lora_bias": True}, plain),
        ("bias-unannounced", "a bias of B, but not lora_bias", ["lora_B.bias"], {}, plain | bias),
        ("no-tensors", "no tensor in the file", [], {}, {}),
        ("integers", "integers for weights", ["lora_A"], {}, plain | {a: torch.ones(2, 24, dtype=torch.int8)}),
        ("rank-zero", "r 0", [], {"r": 0}, {a: torch.ones(0, 24), b: torch.ones(256, 0)}),
        ("prefix-tuning", "another kind of adapter", ["PREFIX_TUNING"],
         {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}, {"prompt_embeddings": torch.ones(2, 1024)}),
        ("pissa", "PiSSA not converted to LoRA: belongs to a base less a part of it", ["pissa"],
         {"init_lora_weights": "pissa"}, plain),
        ("olora", "OLoRA not converted to LoRA: belongs to a base less a part of it", ["olora"],
         {"init_lora_weights": "olora"}, plain),
        ("corda", "CorDA not converted to LoRA: belongs to a base less a part of it", ["corda"],
         {"init_lora_weights": "corda"}, plain),
        ("loftq", "LoftQ: belongs to a quantised base", ["loftq"], {"init_lora_weights": "loftq"}, plain),
        ("activated", "aLoRA: active only after some tokens", ["alora_invocation_tokens"],
         {"alora_invocation_tokens": [5, 6]}, plain),
        ("replicated-layers", "layers of the base used more than once", ["layer_replication"],
         {"layer_replication": [[0, 2], [1, 2]]}, plain),
    ]  # fmt: skip


def _write(folder, config, tensors):
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if tensors is not None:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _by_peft(model_folder, config, folder):
    """An adapter of another kind, as peft writes it."""
    base = reference.load(model_folder / BASE)
    base.name_or_path = BASE
    model = get_peft_model(base, config)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / CONFIG
    fields = json.loads(path.read_text())
    for field in ("target_modules", "feedforward_modules"):
        if isinstance(fields.get(field), list):
            fields[field].sort()
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    return fields


def _check_initialisations(model_folder, out):
    """Fails if peft's answers did not depend on `init_lora_weights` when it loads an adapter."""
    answers = {}
    for name in ("plain", "pissa", "olora"):
        base = reference.load(model_folder / BASE)
        model = PeftModel.from_pretrained(base, out / name).get_base_model()
        layer = lora.layers(model)["model.language_model.layers.0.self_attn.v_proj"]
        answers[name] = layer.get_base_layer().weight.clone()
    assert not torch.equal(answers["plain"], answers["pissa"]) and not torch.equal(answers["plain"], answers["olora"])


def make(model_folder, out):
    """Writes every folder and manifest.json."""
    torch.manual_seed(0)
    manifest = []

    def enter(folder, wrong, words):
        manifest.append({"folder": folder, "base": BASE, "wrong": wrong, "error_names": words})

    settings = {"r": 2, "lora_alpha": 4, "target_modules": TARGET, "task_type": "CAUSAL_LM"}
    plain = _by_peft(model_folder, LoraConfig(**settings), out / "plain")
    save_file(_plain(), out / "plain" / WEIGHTS, metadata={"format": "pt"})
    reference_keys = set(load_file(out / "plain" / WEIGHTS))
    assert reference_keys == set(_plain()), reference_keys

    for folder, wrong, words, fields, tensors in _variants():
        _write(out / folder, plain | fields, tensors)
        enter(folder, wrong, words)

    _by_peft(model_folder, LoraConfig(use_dora=True, **settings), out / "dora")
    enter("dora", "DoRA: use_dora and lora_magnitude_vector", ["use_dora"])
    _write(out / "dora-unannounced", plain, load_file(out / "dora" / WEIGHTS))
    enter("dora-unannounced", "lora_magnitude_vector, but not use_dora", ["lora_magnitude_vector"])
    ia3 = {"target_modules": TARGET, "feedforward_modules": [], "task_type": "CAUSAL_LM"}
    _by_peft(model_folder, IA3Config(**ia3), out / "ia3")
    enter("ia3", "another kind of adapter", ["IA3"])
    _by_peft(model_folder, LoraConfig(trainable_token_indices=[5, 6], **settings), out / "trainable-tokens")
    enter("trainable-tokens", "single rows of the embedding replaced", ["trainable_token"])

    _write(out / "no-weights", plain, None)
    enter("no-weights", "no file of weights", [WEIGHTS])
    _write(out / "pickle", plain, None)
    torch.save(_plain(), out / "pickle" / PICKLE)
    enter("pickle", "weights in a pickle alone", [PICKLE])
    _write(out / "no-config", plain, _plain())
    (out / "no-config" / CONFIG).unlink()
    enter("no-config", "no adapter_config.json", [CONFIG])
    _write(out / "cut-short", plain, _plain())
    whole = (out / "cut-short" / WEIGHTS).read_bytes()
    (out / "cut-short" / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    enter("cut-short", "half of the file of weights", [WEIGHTS])

    _check_initialisations(model_folder, out)
    shutil.rmtree(out / "plain")
    lines = ",\n".join("  " + json.dumps(entry) for entry in sorted(manifest, key=lambda entry: entry["folder"]))
    (out / "manifest.json").write_text(f"[\n{lines}\n]\n")
    return len(manifest)
