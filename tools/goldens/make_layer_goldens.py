"""Makes tests/goldens/layers with PyTorch: what transformers' own layers make of random weights.

    python tools/goldens/make_layer_goldens.py tests/goldens/layers

All is f32. Weights keep the names that checkpoints have. Positions count from 0, and masks are
written out here: transformers builds them in the model, not in its layers.
"""

import pathlib
import sys
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from transformers import DynamicCache, Gemma2Config, GemmaConfig, SiglipVisionConfig
from transformers.models.gemma import modeling_gemma as gemma
from transformers.models.gemma2 import modeling_gemma2 as gemma2
from transformers.models.siglip import modeling_siglip as siglip

PREFIX, DECODED, WINDOW = 6, 3, 4
TEXT = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, head_dim=16,
    vocab_size=8, attn_implementation="eager",
)
GEMMA2 = TEXT | dict(num_key_value_heads=2, query_pre_attn_scalar=12, attn_logit_softcapping=2.0)


def randomised(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def first(output):
    return output[0] if isinstance(output, tuple) else output


def run(module, x, rope, window):
    """A prefix, every token of which sees all of it, and then one token after the other."""
    cache = DynamicCache()
    outputs, prefilled = [], None
    for start, end in [(0, PREFIX)] + [(i, i + 1) for i in range(PREFIX, PREFIX + DECODED)]:
        positions = torch.arange(start, end)[None]
        mask = torch.zeros(1, 1, end - start, end)
        if window and start > 0:
            mask[..., : max(0, end - window)] = float("-inf")
        part = x[None, start:end]
        outputs.append(first(module(
            hidden_states=part, position_embeddings=rope(part, positions), position_ids=positions,
            attention_mask=mask, past_key_values=cache,
        ))[0])
        if start == 0:
            prefilled = cache.layers[0].keys[0].clone(), cache.layers[0].values[0].clone()
    keys, values = cache.layers[0].keys[0], cache.layers[0].values[0]
    return {
        "y": torch.cat(outputs), "keys": keys, "values": values,
        "prefilled.keys": prefilled[0], "prefilled.values": prefilled[1],
    }


def text_layer(config, layer, rotary, window):
    layer, rope = randomised(layer), rotary(config)
    x = torch.randn(PREFIX + DECODED, config.hidden_size)
    q = torch.randn(PREFIX + DECODED, 4, config.head_dim)
    positions = torch.tensor([0, 1, 2, 5, 17, 250, 256, 257, 1000])
    rotated, _ = gemma.apply_rotary_pos_emb(q[None], q[None], *rope(q, positions[None]), unsqueeze_dim=2)
    results = {
        "x": x, "rms.y": layer.input_layernorm(x), "mlp.y": layer.mlp(x),
        "rope.x": q, "rope.y": rotated[0], "rope.positions": positions.to(torch.uint32),
    }
    for name, module in [("attention", layer.self_attn), ("layer", layer)]:
        results |= {f"{name}.{key}": value for key, value in run(module, x, rope, window).items()}
    return results | {f"weights.{name}": value for name, value in layer.state_dict().items()}


def vision_layer():
    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_attention_heads=4, num_hidden_layers=1,
        hidden_act="gelu_pytorch_tanh", attn_implementation="eager",
    )
    layer = randomised(siglip.SiglipEncoderLayer(config))
    x = torch.randn(2, 9, 32)
    return {
        "x": x, "norm.y": layer.layer_norm1(x), "gelu.y": layer.mlp.activation_fn(x),
        "attention.y": first(layer.self_attn(x)), "y": first(layer(x, None)),
    } | {f"weights.{name}": value for name, value in layer.state_dict().items()}


def scores():
    """Attention alone: all queries over all keys, and one query over a part of them."""
    module = SimpleNamespace(num_key_value_groups=2, training=False)
    q, k, v = torch.randn(1, 4, 7, 16), torch.randn(1, 2, 7, 16), torch.randn(1, 2, 7, 16)
    hidden = torch.zeros(1, 1, 1, 7)
    hidden[..., [0, 1, 6]] = float("-inf")
    results = {"q": q[0].transpose(0, 1), "k": k[0].transpose(0, 1), "v": v[0].transpose(0, 1)}
    results["mask"] = hidden
    for name, softcap in [("plain", None), ("softcap", 1.5)]:
        attend = lambda q, mask: gemma2.eager_attention_forward(
            module, q, k, v, mask, dropout=0.0, scaling=0.3, softcap=softcap)[0][0]
        results[f"{name}.all"] = attend(q, torch.zeros(1, 1, 7, 7)).flatten(1)
        results[f"{name}.cached"] = attend(q[:, :, -1:], hidden).flatten(1)
    return results


@torch.no_grad()
def main(folder):
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    one, two = GemmaConfig(**TEXT, num_key_value_heads=1), Gemma2Config(**GEMMA2)
    parts = {
        "gemma": text_layer(one, gemma.GemmaDecoderLayer(one, 0), gemma.GemmaRotaryEmbedding, None),
        "siglip": vision_layer(),
        "attend": scores(),
    }
    for name, window in [("gemma2", None), ("gemma2_window", WINDOW)]:
        layer = gemma2.Gemma2DecoderLayer(two, 0)
        parts[name] = text_layer(two, layer, gemma2.Gemma2RotaryEmbedding, window)
    tensors = {f"{part}.{name}": value.contiguous().clone()
               for part, values in parts.items() for name, value in values.items()}
    save_file(tensors, folder / "golden.safetensors")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
