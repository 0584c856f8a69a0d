"""The LoRA adapters: what each is meant to catch, and how its files are written."""

from dataclasses import dataclass, field

# Names of tensors, by the version of transformers that an adapter was trained with.
V4_OLD, V4, V5 = "transformers <= 4.51", "transformers 4.52 to 4.57", "transformers 5"

USUAL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class Adapter:
    """One adapter folder. `config` holds fields of LoraConfig, in the names of transformers 5."""

    name: str
    base: str
    why: str
    seed: int
    config: dict
    layout: str = V5
    dtype: str = "float32"
    # Fields of adapter_config.json that replace those of `config`, where they spell names of the layout
    # or where peft would not write them.
    written: dict = field(default_factory=dict)
    # Standard deviation of a weight's change, relative to the weight's own.
    strength: float = 0.5
    # Whether `merge_and_unload` does what the unmerged adapter does.
    merges: bool = True


def renamed(name, layout):
    """A tensor or module name of transformers 5 (without `base_model.model.`) as `layout` has it."""
    if layout == V5:
        return name
    if layout == V4:
        return name.replace("model.vision_tower.", "model.vision_tower.vision_model.", 1)
    if name.startswith("lm_head"):
        return "language_model." + name
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def renamed_key(key, layout):
    """The key of a tensor in adapter_model.safetensors, as `layout` has it."""
    prefix = "base_model.model."
    assert key.startswith(prefix), key
    return prefix + renamed(key.removeprefix(prefix), layout)


def _patterns(tower):
    """Patterns that overlap, are anchored, are expressions, or match nothing. The first that matches counts.

    They are sorted because peft sorts them when it writes the file.
    """
    ranks = {
        "^model.language_model.layers.1.self_attn.v_proj": 6,
        ".*vision.*k_proj": 16,
        "_proj": 7,
        "k_proj": 2,
        "self_attn": 9,
        "layers.0.self_attn.q_proj": 64,
        "layers.1.mlp.gate_proj": 1,
        r"layers\.\d+\.mlp\.up_proj": 5,
        "model.language_model.layers.0.self_attn.q_proj": 48,
        "o_proj": 20,
        "q_proj": 12,
        f"{tower}.encoder.layers.0.self_attn.v_proj": 24,
    }
    alphas = {
        "^model.language_model.layers.1.self_attn.v_proj": 2,
        "_proj": 50,
        "down_proj": 3,
        "layers.[0-9].mlp.up_proj": 30,
        "o_proj": 20,
        f"{tower}.encoder.layers.1.self_attn.(q|k)_proj": 40,
        "q_proj": 5,
    }
    return {"rank_pattern": dict(sorted(ranks.items())), "alpha_pattern": dict(sorted(alphas.items()))}


def all_adapters():
    """Every adapter, in the order in which they are made."""
    return [
        Adapter(
            name="pg1-language-regex",
            base="pg1-hub",
            why="q_proj and v_proj of the language model alone, by an expression; names of transformers <= 4.51",
            seed=11,
            config={
                "r": 4,
                "lora_alpha": 8,
                "target_modules": r"model\.language_model\.layers\.\d+\.self_attn\.(q_proj|v_proj)",
            },
            layout=V4_OLD,
            written={"target_modules": r"language_model\.model\.layers\.\d+\.self_attn\.(q_proj|v_proj)"},
            strength=1.0,
        ),
        Adapter(
            name="pg1-usual-bf16",
            base="pg1-hub",
            why="the usual seven names, which are in SigLIP too; bf16; names of transformers 4.52 to 4.57",
            seed=12,
            config={"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": USUAL},
            layout=V4,
            dtype="bfloat16",
        ),
        Adapter(
            name="pg1-patterns-f16",
            base="pg1-hub",
            why="use_rslora, rank_pattern and alpha_pattern: ranks from 1 to 64; f16",
            seed=53,
            config={
                "r": 8,
                "lora_alpha": 12,
                "use_rslora": True,
                "target_modules": USUAL,
                **_patterns("model.vision_tower"),
            },
            layout=V4,
            dtype="float16",
            written=_patterns("model.vision_tower.vision_model"),
        ),
        Adapter(
            name="pg1-bias",
            base="pg1-hub",
            why="lora_bias, also where the base has no bias; fc1, fc2, out_proj and the projector too",
            seed=14,
            config={
                "r": 4,
                "lora_alpha": 6,
                "lora_bias": True,
                "target_modules": [*USUAL, "fc1", "fc2", "out_proj", "linear"],
            },
            strength=0.3,
            merges=False,
        ),
        Adapter(
            name="pg1-embeddings",
            base="pg1-hub",
            why="embed_tokens and lm_head of tied weights, patch_embedding and position_embedding; <= 4.51",
            seed=135,
            config={
                "r": 4,
                "lora_alpha": 10,
                "target_modules": ["embed_tokens", "lm_head", "patch_embedding", "position_embedding"],
            },
            layout=V4_OLD,
            merges=False,
        ),
        Adapter(
            name="pg1-tied-head-f16",
            base="pg1-hub",
            why="ensure_weight_tying: lm_head and embed_tokens share A and B, and the file has both; f16",
            seed=27,
            config={"r": 2, "lora_alpha": 3, "target_modules": ["lm_head"], "ensure_weight_tying": True},
            layout=V4,
            dtype="float16",
            merges=False,
        ),
        Adapter(
            name="pg1-saved-projector-bf16",
            base="pg1-hub",
            why="modules_to_save: the projector, with q_proj; bf16; names of transformers <= 4.51",
            seed=26,
            config={
                "r": 4,
                "lora_alpha": 6,
                "target_modules": ["q_proj"],
                "modules_to_save": ["multi_modal_projector"],
            },
            layout=V4_OLD,
            dtype="bfloat16",
            strength=0.8,
        ),
        Adapter(
            name="pg1-saved-embeddings-bf16",
            base="pg1-hub",
            why="modules_to_save: embed_tokens and lm_head, each with its own values although the base ties them",
            seed=47,
            config={
                "r": 2,
                "lora_alpha": 6,
                "target_modules": ["v_proj"],
                "modules_to_save": ["embed_tokens", "lm_head"],
            },
            layout=V4,
            dtype="bfloat16",
        ),
        Adapter(
            name="pg1-fan-in-fan-out",
            base="pg1-hub",
            why="fan_in_fan_out in the configuration, which means nothing for these layers; square weights",
            seed=8,
            config={"r": 2, "lora_alpha": 3, "target_modules": ["out_proj"]},
            written={"fan_in_fan_out": True},
            strength=1.0,
        ),
        Adapter(
            name="pg2-usual-bf16",
            base="pg2-saved-bf16-window",
            why="PaliGemma 2 with several KV heads: the usual seven names, fc1 and fc2; transformers 5",
            seed=49,
            config={"r": 8, "lora_alpha": 16, "target_modules": [*USUAL, "fc1", "fc2"]},
            dtype="bfloat16",
            strength=0.4,
        ),
        Adapter(
            name="pg2-head-f16",
            base="pg2-memory-f16",
            why="lm_head, whose base weights are a file's own tensor, and o_proj; f16",
            seed=10,
            config={"r": 4, "lora_alpha": 8, "target_modules": ["lm_head", "o_proj"]},
            dtype="float16",
            merges=False,
        ),
    ]
