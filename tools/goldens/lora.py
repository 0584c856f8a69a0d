"""Random LoRA adapters on the base checkpoints: made, written and loaded by peft."""

import json
import math
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Embedding, LoraLayer
from peft.utils import ModulesToSaveWrapper
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

import adapters as ad
import reference

NAME = "default"


def layers(model):
    """Name → LoRA layer of a model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def saved_modules(model):
    """Name → wrapper of a module that the adapter replaces."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)}


def factors(layer):
    """The parameters A and B of a layer."""
    if isinstance(layer, Embedding):
        return layer.lora_embedding_A[NAME], layer.lora_embedding_B[NAME]
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight


def bias(layer):
    """The bias that B adds, or None."""
    return layer.lora_B[NAME].bias if NAME in layer.lora_B else None


def difference(layer):
    """The change of a layer's weight, [out, in] or [rows, width]."""
    return layer.get_delta_weight(NAME)


@torch.no_grad()
def _fill(model, adapter):
    """Random A and B, and random changes of saved modules, in values that the file's dtype has."""
    dtype = getattr(torch, adapter.dtype)
    generator = torch.Generator().manual_seed(1000 + adapter.seed)

    def draw(parameter, deviation, around=0.0):
        values = torch.randn(parameter.shape, generator=generator) * deviation + around
        parameter.copy_(values.to(dtype).float())

    for _, layer in sorted(layers(model).items()):
        weight = layer.get_base_layer().weight
        a, b = factors(layer)
        fan_in = 1 if isinstance(layer, Embedding) else math.prod(weight.shape[1:])
        draw(a, 1 / math.sqrt(fan_in))
        size = adapter.strength * float(weight.std()) * math.sqrt(fan_in)
        draw(b, size / (layer.scaling[NAME] * math.sqrt(layer.r[NAME])))
        if bias(layer) is not None:
            draw(bias(layer), 0.5 / layer.scaling[NAME])
    for _, wrapper in sorted(saved_modules(model).items()):
        for _, parameter in sorted(wrapper.modules_to_save[NAME].named_parameters()):
            draw(parameter, adapter.strength * float(parameter.std()), parameter.clone())


def make(adapter, base_folder):
    """A PeftModel with random adapter weights. The base is in f32, its values as stored."""
    base = reference.load(base_folder)
    base.name_or_path = adapter.base
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **adapter.config)).eval()
    _fill(model.get_base_model(), adapter)
    return model


def save(model, adapter, folder):
    """What `save_pretrained` writes, with weights in the adapter's dtype; without its model card."""
    dtype = getattr(torch, adapter.dtype)
    model.save_pretrained(folder, state_dict={name: t.to(dtype) for name, t in model.state_dict().items()})
    (folder / "README.md").unlink()


def load(base_folder, folder):
    """The base with the adapter of `folder`, in f32 and unmerged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(reference.load(base_folder), folder).eval()
    missing = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
    assert not missing, f"{folder}: {missing}"
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return model


def rewrite(adapter, folder):
    """Gives the files in `folder` the names of the adapter's layout, and the fields it is written with."""
    weights = folder / "adapter_model.safetensors"
    tensors = {ad.renamed_key(key, adapter.layout): t for key, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | adapter.written
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # peft writes a set, in an order that changes from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    return tensors, config


def check_patterns(model, adapter, config):
    """Fails if the written patterns say something else, of the written names, than the ones in use."""
    for name, layer in layers(model).items():
        written = ad.renamed(name, adapter.layout)
        key = get_pattern_key(list(config["rank_pattern"]), written)
        assert layer.r[NAME] == config["rank_pattern"].get(key, config["r"]), name
        key = get_pattern_key(list(config["alpha_pattern"]), written)
        assert layer.lora_alpha[NAME] == config["alpha_pattern"].get(key, config["lora_alpha"]), name


def check_base_copies(tensors, adapter, base_folder):
    """Fails if a copy of a base weight, which peft writes for adapted embeddings, is not the base's."""
    base = reference.load(base_folder).state_dict()
    for key, tensor in tensors.items():
        if key.endswith(".base_layer.weight"):
            name = "lm_head.weight" if "lm_head" in key else "model.language_model.embed_tokens.weight"
            assert torch.equal(tensor.float(), base[name]), key


def check_tied(tensors, config):
    """Fails if an adapter with tied weights does not have both, one the other's transpose."""
    if config["ensure_weight_tying"]:
        own = {key.split(".")[-1 if "embedding" in key else -2]: tensor for key, tensor in tensors.items()}
        assert torch.equal(own["lora_A"], own["lora_embedding_B"].T)
        assert torch.equal(own["lora_B"], own["lora_embedding_A"].T)
