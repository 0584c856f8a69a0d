"""Random weights with which every part of the model affects the output, and their files."""

import json
import math
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

import checkpoints as ck

# RMS of what enters the decoder, and of what a sublayer adds to it.
INPUT_RMS = 1.5
UPDATE_RMS = 4.0
# Padded rows are this much longer than real ones, so that an unmasked argmax often falls on them.
PADDED_GAIN = 1.3


def _deviation(name, shape, text, checkpoint):
    """(mean, standard deviation) of a parameter, by its name."""
    fan_in = math.prod(shape[1:])
    gemma2 = text.model_type == "gemma2"
    if ".vision_tower." in name:
        if name.endswith("bias"):
            return 0.0, 0.3
        if "layernorm" in name or "layer_norm" in name:
            return 1.0, 0.3
        if "position_embedding" in name:
            return 0.0, 0.6
        gain = 1.3 if ".q_proj" in name or ".k_proj" in name else 1.0
        return 0.0, (3.0 if "patch_embedding" in name else gain) / math.sqrt(fan_in)
    if ".multi_modal_projector." in name:
        return (0.0, 0.4) if name.endswith("bias") else (0.0, INPUT_RMS / math.sqrt(fan_in))
    if "embed_tokens" in name:
        return 0.0, INPUT_RMS / math.sqrt(text.hidden_size)
    if name.endswith("language_model.norm.weight"):
        # The tied head multiplies by embeddings: logits have INPUT_RMS times the norm's scale.
        return checkpoint.logits / INPUT_RMS - 1.0, 0.4
    if "layernorm" in name:
        update = gemma2 and ("post_attention" in name or "post_feedforward" in name)
        return (UPDATE_RMS - 1.0 if update else 0.0), 0.3
    if ".q_proj" in name or ".k_proj" in name:
        scalar = text.query_pre_attn_scalar if gemma2 else text.head_dim
        unit = math.sqrt(text.head_dim / scalar)
        return 0.0, math.sqrt(checkpoint.scores / unit) / math.sqrt(fan_in)
    if ".o_proj" in name or ".down_proj" in name:
        return 0.0, UPDATE_RMS / math.sqrt(fan_in)
    return 0.0, (1.5 if ".mlp." in name else 1.0) / math.sqrt(fan_in)


@torch.no_grad()
def random_model(checkpoint: ck.Checkpoint):
    """A model with the checkpoint's configuration and weights, in the dtype that goes to disk."""
    config = PaliGemmaConfig(**checkpoint.config)
    model = PaliGemmaForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(checkpoint.seed)
    for name, parameter in sorted(model.named_parameters()):
        mean, deviation = _deviation(name, parameter.shape, config.text_config, checkpoint)
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation + mean)
    model.get_input_embeddings().weight[ck.VOCABULARY :] *= PADDED_GAIN
    return model.to(getattr(torch, checkpoint.dtype))


def _hub_name(name):
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def _renamed(model, layout):
    tensors = model.state_dict()
    if layout == ck.HUB:
        return {_hub_name(n): t for n, t in tensors.items() if n != "lm_head.weight"}
    if layout == ck.MEMORY_NESTED:
        return {n.replace(".vision_tower.", ".vision_tower.vision_model.", 1): t for n, t in tensors.items()}
    return dict(tensors)


def _write_tensors(tensors, folder, shard_bytes):
    # `clone`: the exported lm_head shares its memory with the embedding, which save_file refuses.
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    split = split_torch_state_dict_into_shards(tensors, max_shard_size=shard_bytes or 2**40)
    for file, names in split.filename_to_tensors.items():
        save_file({n: tensors[n] for n in names}, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _write_config(checkpoint, model, folder):
    if checkpoint.hub_config:
        text = json.dumps(checkpoint.config, indent=2, sort_keys=True)
        (folder / "config.json").write_text(text + "\n")
    else:
        model.config.architectures = [type(model).__name__]
        model.config.dtype = checkpoint.dtype
        model.config.save_pretrained(folder)


def write(checkpoint: ck.Checkpoint, folder: Path):
    """Writes config.json, generation_config.json and the weights."""
    model = random_model(checkpoint)
    if checkpoint.layout == ck.SAVED:
        sharding = {"max_shard_size": checkpoint.shard_bytes} if checkpoint.shard_bytes else {}
        model.save_pretrained(folder, **sharding)
    else:
        _write_tensors(_renamed(model, checkpoint.layout), folder, checkpoint.shard_bytes)
        _write_config(checkpoint, model, folder)
    generation = {"_from_model_config": True, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
