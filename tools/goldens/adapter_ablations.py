"""Mistakes that an implementation of LoRA could make. Each must visibly change an adapter's logits."""

import math
import re
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

import lora
import reference


@contextmanager
def _scaled(scales):
    """`scales`: LoRA layer → factor that takes the place of its own."""
    with ExitStack() as stack:
        for layer, scale in scales.items():
            stack.enter_context(patch.dict(layer.scaling, {lora.NAME: scale}))
        yield


@contextmanager
def _values(changes):
    """`changes`: pairs of a parameter and the values that take the place of its own."""
    kept = [(parameter, parameter.detach().clone()) for parameter, _ in changes]
    with torch.no_grad():
        changes = [(parameter, values.detach().clone()) for parameter, values in changes]
        for parameter, values in changes:
            parameter.data = values
        try:
            yield
        finally:
            for parameter, values in kept:
                parameter.data = values


def _part(name):
    """What a layer belongs to: its tower and its own name."""
    tower = "vision " if ".vision_tower." in name else "text " if ".layers." in name else ""
    return tower + name.rpartition(".")[2]


def _scale(config, rank, alpha):
    return alpha / math.sqrt(rank) if config["use_rslora"] else alpha / rank


def _ignored(layers):
    parts = {}
    for name, layer in layers.items():
        parts.setdefault(f"{_part(name)} ignored", []).append(layer)
        if ".vision_tower." in name:
            parts.setdefault("vision tower ignored", []).append(layer)
    return {part: _scaled(dict.fromkeys(members, 0.0)) for part, members in parts.items()}


def _scales(layers, config):
    opposite = {**config, "use_rslora": not config["use_rslora"]}

    def of(rule, config=config):
        return _scaled({layer: _scale(config, *rule(name, layer)) for name, layer in layers.items()})

    def own(_, layer):
        return layer.r[lora.NAME], layer.lora_alpha[lora.NAME]

    mistakes = {
        "the other of alpha / r and alpha / sqrt(r)": of(own, opposite),
        "not scaled": _scaled(dict.fromkeys(layers.values(), 1.0)),
    }
    if config["rank_pattern"]:
        mistakes["rank_pattern ignored"] = of(lambda n, m: (config["r"], m.lora_alpha[lora.NAME]))
        mistakes["alpha_pattern ignored"] = of(lambda n, m: (m.r[lora.NAME], config["lora_alpha"]))
        mistakes["alpha_pattern: the last that matches"] = of(lambda n, m: (m.r[lora.NAME], _last(config, n)))
        mistakes["alpha_pattern: as an ending"] = of(lambda n, m: (m.r[lora.NAME], _ending(config, n)))
        mistakes["alpha_pattern: as plain text"] = of(lambda n, m: (m.r[lora.NAME], _plain(config, n)))
    return mistakes


def _last(config, name):
    pattern = config["alpha_pattern"]
    found = [key for key in pattern if re.match(rf"(.*\.)?({key})$", name)]
    return pattern[found[-1]] if found else config["lora_alpha"]


def _ending(config, name):
    pattern = config["alpha_pattern"]
    return next((alpha for key, alpha in pattern.items() if re.search(rf"({key})$", name)), config["lora_alpha"])


def _plain(config, name):
    pattern = config["alpha_pattern"]
    return next((alpha for key, alpha in pattern.items() if f".{name}".endswith(f".{key}")), config["lora_alpha"])


def _swapped(layers, one, other):
    """A of two layers side by side, and B where the shapes allow."""
    changes = []
    for name, layer in layers.items():
        if not name.endswith(one):
            continue
        pair = layers.get(name.removesuffix(one) + other)
        for p, q in zip(lora.factors(layer), lora.factors(pair)) if pair else ():
            if p.shape == q.shape:
                changes += [(p, q), (q, p)]
    return {f"{one} and {other} swapped": _values(changes)} if changes else {}


def _biases(layers):
    biased = [(layer, lora.bias(layer)) for layer in layers.values() if lora.bias(layer) is not None]
    if not biased:
        return {}
    text = [b for layer, b in biased if layer.get_base_layer().bias is None]
    return {
        "lora_bias ignored": _values([(b, b * 0) for _, b in biased]),
        "lora_bias ignored where the base has none": _values([(b, b * 0) for b in text]),
        "lora_bias not scaled": _values([(b, b / layer.scaling[lora.NAME]) for layer, b in biased]),
    }


def _after(module, change):
    original = module.forward
    return patch.object(module, "forward", lambda x, *a, **k: change(x, original(x, *a, **k)))


def _embeddings(layers):
    """Mistakes about LoRA of the embedding, of the head that shares its weights, and of the convolution."""
    mistakes = {}
    embed, head = layers.get("model.language_model.embed_tokens"), layers.get("lm_head")
    patches = next((layer for name, layer in layers.items() if name.endswith("patch_embedding")), None)
    if embed:
        root = float(embed.get_base_layer().embed_scale)
        own = embed.scaling[lora.NAME]
        mistakes["embed_tokens not scaled by sqrt(hidden)"] = _scaled({embed: own / root})
    if embed and head:
        to_head, to_embed = lora.difference(embed), lora.difference(head)
        mistakes["embed_tokens applied to the head too"] = _after(head, lambda x, y: y + x @ to_head.T)
        mistakes["lm_head applied to the embedding too"] = _after(embed, lambda x, y: y + to_embed[x] * root)
    if patches:
        a, _ = lora.factors(patches)
        rank, channels, side, _ = a.shape
        mistakes["patch_embedding with channels last"] = _values(
            [(a, a.reshape(rank, side, side, channels).permute(0, 3, 1, 2))]
        )
    return mistakes


def _saved(model):
    """Mistakes about modules that the adapter replaces."""
    wrappers = lora.saved_modules(model)
    mistakes = {
        f"modules_to_save {name} ignored": patch.object(wrapper, "forward", wrapper.original_module.forward)
        for name, wrapper in wrappers.items()
    }
    embed, head = (wrappers.get(name) for name in ("model.language_model.embed_tokens", "lm_head"))
    if embed and head:
        embed, head = (wrapper.modules_to_save[lora.NAME].weight for wrapper in (embed, head))
        mistakes["saved head taken from the saved embedding"] = _values([(head, embed)])
        mistakes["saved embedding taken from the saved head"] = _values([(embed, head)])
    return mistakes


def _transposed(layers):
    """fan_in_fan_out obeyed, which goes unnoticed where in and out are as wide as each other."""
    square = [lora.factors(layer) for layer in layers.values() if layer.in_features == layer.out_features]
    return {"transposed": _values([pair for a, b in square for pair in ((a, b.T), (b, a.T))])}


def changes(model, config, pixel_values, prompt_ids):
    """Name → relative change of the first step's logits."""
    layers = lora.layers(model)
    mistakes = {
        **_ignored(layers),
        **_scales(layers, config),
        **_biases(layers),
        **_embeddings(layers),
        **_saved(model),
        **_swapped(layers, "q_proj", "v_proj"),
        **_swapped(layers, "q_proj", "k_proj"),
        **_swapped(layers, "gate_proj", "up_proj"),
    }
    if config["fan_in_fan_out"]:
        mistakes |= _transposed(layers)
    arguments = reference.inputs(model, pixel_values, prompt_ids)
    right = reference.logits_at(model, arguments)
    found = {}
    for name, mistake in mistakes.items():
        with mistake:
            found[name] = reference.relative(reference.logits_at(model, arguments), right)
    assert torch.equal(reference.logits_at(model, arguments), right), "a mistake stayed"
    return found
