"""The checkpoints: what each is meant to catch, and how its configuration is stored."""

from dataclasses import dataclass

import synthetic_tokenizer as tok

VOCABULARY = len(tok.build()["model"]["vocab"])
PADDED_ROWS = 64
ROWS = VOCABULARY + PADDED_ROWS
IMAGE_ID = VOCABULARY - 1
NEWLINE_ID = len(tok.SPECIAL) + len(tok.UNUSED)

HUB, MEMORY, MEMORY_NESTED, SAVED = "hub", "memory", "memory_nested", "saved"


@dataclass
class Checkpoint:
    """One checkpoint folder. `config` holds the fields as config.json (or PaliGemmaConfig) gets them."""

    name: str
    why: str
    seed: int
    config: dict
    dtype: str
    # Tensor names: HUB originals; MEMORY: the model's own; MEMORY_NESTED: those of transformers 4, whose
    # vision tower sits in a `vision_model`; SAVED: what save_pretrained of transformers 5 writes.
    layout: str
    # config.json as published files are (the fields of `config` and no more), or as transformers 5 saves it.
    hub_config: bool
    shard_bytes: int | None = None
    locations: str = tok.ADDED
    # Standard deviation that attention scores are given.
    scores: float = 4.0
    # Standard deviation that logits are given before the final softcap.
    logits: float = 4.0

    @property
    def side(self):
        """Width and height of an image in pixels; 224 where the configuration leaves it out."""
        return self.config["vision_config"].get("image_size", 224)


def _hub(text, vision, projection_dim, hidden_size, dtype, **top):
    """A config.json with the fields that published ones have, and without those that they leave out."""
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "hidden_size": hidden_size,
        "ignore_index": -100,
        "image_token_index": IMAGE_ID,
        "model_type": "paligemma",
        "pad_token_id": 0,
        "projection_dim": projection_dim,
        "text_config": {**text, "vocab_size": ROWS, "torch_dtype": dtype},
        "torch_dtype": dtype,
        "transformers_version": "4.47.0",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "patch_size": 14,
            "projection_dim": projection_dim,
            "projector_hidden_act": "gelu_fast",
            "vision_use_head": False,
            **vision,
        },
        **top,
    }


def _full(text, vision, **top):
    """Arguments for PaliGemmaConfig; save_pretrained adds everything else."""
    return {
        "bos_token_id": 2,
        "eos_token_id": 1,
        "hidden_size": text["hidden_size"],
        "image_token_index": IMAGE_ID,
        "pad_token_id": 0,
        "projection_dim": text["hidden_size"],
        "text_config": {**text, "vocab_size": ROWS},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "patch_size": 14,
            "vision_use_head": False,
            **vision,
        },
        **top,
    }


def _shape(hidden, inner, layers, heads):
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _gemma(hidden, inner, layers, heads, kv, **more):
    return {"model_type": "gemma", **_shape(hidden, inner, layers, heads), "num_key_value_heads": kv, **more}


def _gemma2(hidden, inner, layers, kv, **more):
    return {
        "model_type": "gemma2",
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv,
        **more,
    }


def all_checkpoints():
    """Every checkpoint, in the order in which they are made."""
    return [
        Checkpoint(
            name="pg1-hub",
            why="published PaliGemma 1 at 224 px: head_dim, rope_theta, rms_norm_eps and image_size left out",
            seed=6,
            config=_hub(
                _gemma(24, 64, 2, 2, 1, num_image_tokens=256),
                {**_shape(36, 64, 2, 3), "num_image_tokens": 256},
                projection_dim=24,
                hidden_size=24,
                dtype="float32",
            ),
            dtype="float32",
            layout=HUB,
            hub_config=True,
        ),
        Checkpoint(
            name="pg1-saved-f16-sharded",
            why="transformers 5's own files in shards; vision heads of 18, one KV head",
            seed=15,
            config=_full(_gemma(64, 96, 3, 4, 1, head_dim=16), {**_shape(72, 100, 2, 4), "image_size": 56}),
            dtype="float16",
            layout=SAVED,
            hub_config=False,
            shard_bytes=300_000,
        ),
        Checkpoint(
            name="pg1-memory-bf16",
            why="in-memory names of transformers 4 with an exported lm_head; loc and seg only in the vocabulary",
            seed=7,
            config=_full(_gemma(48, 96, 3, 4, 2, head_dim=32), {**_shape(64, 96, 2, 4), "image_size": 70}),
            dtype="bfloat16",
            layout=MEMORY_NESTED,
            hub_config=False,
            locations=tok.VOCAB_ONLY,
        ),
        Checkpoint(
            name="pg1-hub-bf16-sharded",
            why="as many KV heads as heads; num_positions stale as in published 448 px files",
            seed=15,
            config=_hub(
                _gemma(24, 64, 2, 2, 2, num_image_tokens=4),
                {**_shape(48, 80, 2, 3), "image_size": 28, "num_image_tokens": 4, "num_positions": 256},
                projection_dim=24,
                hidden_size=24,
                dtype="bfloat16",
            ),
            dtype="bfloat16",
            layout=HUB,
            hub_config=True,
            shard_bytes=250_000,
        ),
        Checkpoint(
            name="pg2-hub-bf16-sharded",
            why="published PaliGemma 2 3B: num_attention_heads and head_dim left out, hidden_size stale, eos a list",
            seed=5,
            config=_hub(
                _gemma2(
                    24,
                    64,
                    2,
                    4,
                    architectures=["Gemma2ForCausalLM"],
                    cache_implementation="hybrid",
                    eos_token_id=[1, 6],
                    hidden_act="gelu_pytorch_tanh",
                    num_image_tokens=16,
                    query_pre_attn_scalar=256,
                    sliding_window=4096,
                    use_cache=True,
                ),
                {**_shape(48, 80, 2, 4), "image_size": 56, "num_image_tokens": 16, "num_positions": 256},
                projection_dim=24,
                hidden_size=2048,
                dtype="bfloat16",
                num_hidden_layers=2,
            ),
            dtype="bfloat16",
            layout=HUB,
            hub_config=True,
            shard_bytes=300_000,
            scores=10.0,
            logits=8.0,
        ),
        Checkpoint(
            name="pg2-saved-bf16-window",
            why="a sliding window of 8, far shorter than the prefix; query_pre_attn_scalar differs from head_dim",
            seed=1,
            config=_full(
                _gemma2(
                    48, 96, 4, 2, num_attention_heads=4, head_dim=32, query_pre_attn_scalar=24, sliding_window=8
                ),
                {**_shape(72, 100, 2, 4), "image_size": 56},
            ),
            dtype="bfloat16",
            layout=SAVED,
            hub_config=False,
            scores=10.0,
            logits=8.0,
        ),
        Checkpoint(
            name="pg2-memory-f16",
            why="in-memory names of transformers 5 with lm_head; one KV head; loc and seg declared special",
            seed=9,
            config=_full(
                _gemma2(48, 96, 3, 1, num_attention_heads=6, head_dim=16, query_pre_attn_scalar=9),
                {**_shape(64, 96, 2, 4), "image_size": 70},
            ),
            dtype="float16",
            layout=MEMORY,
            hub_config=False,
            locations=tok.ADDED_SPECIAL,
            scores=10.0,
            logits=8.0,
        ),
        Checkpoint(
            name="pg2-hub-f32",
            why="published PaliGemma 2 28B: head_dim 128 with query_pre_attn_scalar 144",
            seed=11,
            config=_hub(
                _gemma2(
                    24,
                    64,
                    3,
                    2,
                    cache_implementation="hybrid",
                    eos_token_id=[1, 6],
                    head_dim=128,
                    num_attention_heads=4,
                    num_image_tokens=4,
                    query_pre_attn_scalar=144,
                    sliding_window=4096,
                ),
                {**_shape(48, 80, 2, 4), "image_size": 28, "num_image_tokens": 4, "num_positions": 256},
                projection_dim=24,
                hidden_size=24,
                dtype="float32",
            ),
            dtype="float32",
            layout=HUB,
            hub_config=True,
            scores=10.0,
            logits=8.0,
        ),
        Checkpoint(
            name="pg2-saved-bf16-layers",
            why="layer_types that do not alternate as usual, with a window of 5; 4 KV heads of 8; shards",
            seed=18,
            config=_full(
                _gemma2(
                    48,
                    96,
                    3,
                    4,
                    num_attention_heads=8,
                    head_dim=16,
                    query_pre_attn_scalar=16,
                    sliding_window=5,
                    layer_types=["full_attention", "sliding_attention", "sliding_attention"],
                ),
                {**_shape(64, 96, 2, 4), "image_size": 56},
            ),
            dtype="bfloat16",
            layout=SAVED,
            hub_config=False,
            shard_bytes=200_000,
            scores=10.0,
            logits=8.0,
        ),
    ]
