"""Mistakes that an implementation could make. Each must visibly change a checkpoint's logits."""

import math
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from transformers.models.gemma import modeling_gemma
from transformers.models.gemma2 import modeling_gemma2

import reference

VISIBLE = 1e-2


def _layers(model):
    return model.model.language_model.layers


@contextmanager
def _attribute_of_attention(model, name, value):
    with ExitStack() as stack:
        for layer in _layers(model):
            stack.enter_context(patch.object(layer.self_attn, name, value))
        yield


@contextmanager
def _identity(*modules):
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(patch.object(module, "forward", lambda x: x))
        yield


def _after(module, change):
    original = module.forward
    return patch.object(module, "forward", lambda *a, **k: change(original(*a, **k)))


def _interleaved(x):
    pairs = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1)
    return pairs.flatten(-2)


def _tiled(states, times):
    return states.repeat(1, times, 1, 1)


def _norm_without_one(self, x):
    return (self._norm(x.float()) * self.weight.float()).type_as(x)


def _patches(model):
    """Name → context manager under which the model makes that mistake, for those that apply to it."""
    config = model.config.text_config
    gemma2 = config.model_type == "gemma2"
    code = modeling_gemma2 if gemma2 else modeling_gemma
    norm = code.Gemma2RMSNorm if gemma2 else code.GemmaRMSNorm
    projector = model.model.multi_modal_projector
    vision = model.model.vision_tower
    root = math.sqrt(config.hidden_size)
    scaling = _layers(model)[0].self_attn.scaling
    patches = {
        "attention scale of hidden/heads": _attribute_of_attention(
            model, "scaling", (config.hidden_size / config.num_attention_heads) ** -0.5
        )
        if config.hidden_size != config.num_attention_heads * config.head_dim
        else _attribute_of_attention(model, "scaling", 1.0 / config.head_dim),
        "attention scale 10 % off": _attribute_of_attention(model, "scaling", scaling * 1.1),
        "interleaved rope": patch.object(code, "rotate_half", _interleaved),
        "no rope": patch.object(code, "apply_rotary_pos_emb", lambda q, k, *_: (q, k)),
        "no final vision layernorm": _identity(vision.post_layernorm),
        "no vision positions": _after(vision.embeddings.position_embedding, lambda x: x * 0),
        "image tokens times sqrt(hidden)": _after(projector, lambda x: x * root),
        "image tokens over sqrt(hidden)": _after(projector, lambda x: x / root),
        "L2-normalised image tokens": _after(projector, lambda x: x / x.norm(dim=-1, keepdim=True)),
        "unscaled text embeddings": patch.object(
            model.model.language_model.embed_tokens, "embed_scale", torch.tensor(1.0)
        ),
        "norm weight without 1 +": patch.object(norm, "forward", _norm_without_one),
    }
    if 1 < config.num_key_value_heads < config.num_attention_heads:
        patches["KV heads tiled"] = patch.object(code, "repeat_kv", _tiled)
    if gemma2:
        patches["no attention softcap"] = _attribute_of_attention(model, "attn_logit_softcapping", None)
        patches["no final softcap"] = patch.object(config, "final_logit_softcapping", None)
        norms = [(layer.post_attention_layernorm, layer.post_feedforward_layernorm) for layer in _layers(model)]
        patches["no norms after sublayers"] = _identity(*(norm for pair in norms for norm in pair))
        if config.query_pre_attn_scalar != config.head_dim:
            patches["attention scale of head_dim"] = _attribute_of_attention(model, "scaling", config.head_dim**-0.5)
    return patches


def first_step(model, pixel_values, prompt_ids):
    """Name → relative change of the first step's logits."""
    arguments = reference.inputs(model, pixel_values, prompt_ids)
    right = reference.logits_at(model, arguments)
    causal = {**arguments, "token_type_ids": torch.ones_like(arguments["token_type_ids"])}
    backwards = torch.arange(arguments["input_ids"].shape[1], 0, -1)[None]
    wrong = {
        "causal prefix": reference.logits_at(model, causal),
        "positions reversed": reference.logits_at(model, arguments, position_ids=backwards),
    }
    for name, mistake in _patches(model).items():
        with mistake:
            wrong[name] = reference.logits_at(model, arguments)
    return {name: reference.relative(logits, right) for name, logits in wrong.items()}


def window(model, pixel_values, prompt_ids, tokens):
    """Name → relative change of the logits after all but the last token, for mistakes about the window."""
    config = model.config.text_config
    arguments = reference.inputs(model, pixel_values, prompt_ids, tokens[:-1])
    right = reference.logits_at(model, arguments)
    swap = {"sliding_attention": "full_attention", "full_attention": "sliding_attention"}
    alternating = [("sliding_attention", "full_attention")[i % 2] for i in range(config.num_hidden_layers)]
    mistakes = {
        "no window": {"sliding_window": 4096},
        "window one longer": {"sliding_window": config.sliding_window + 1},
        "window one shorter": {"sliding_window": config.sliding_window - 1},
        "window on the other layers": {"layer_types": [swap[kind] for kind in config.layer_types]},
        "window on every layer": {"layer_types": ["sliding_attention"] * config.num_hidden_layers},
    }
    if config.layer_types != alternating:
        mistakes["layer_types not read"] = {"layer_types": alternating}
    changes = {}
    for name, fields in mistakes.items():
        with ExitStack() as stack:
            for field, value in fields.items():
                stack.enter_context(patch.object(config, field, value))
            changes[name] = reference.relative(reference.logits_at(model, arguments), right)
    return changes


def check(changes, where):
    """Fails if a mistake would go unnoticed."""
    unseen = {name: change for name, change in changes.items() if not change > VISIBLE}
    assert not unseen, f"{where}: no visible change of the logits from {unseen}"
