"""What LoRA adapters cost: eight requests at once on as many adapters, compared with eight on the base.

Both are answered by one server, in turns, about new pictures of noise. Adapters are random, with the seven usual names, and
those in SigLIP's layers if `--vision` is given.

    python tools/bench/adapters.py --checkpoint DIR --binary target/release/paligemma-server
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from server import Server

TEXT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOGETHER = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--binary", default="target/release/paligemma-server")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--vision", action="store_true")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    args.slots = TOGETHER
    config = json.loads((Path(args.checkpoint) / "config.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        names = [f"adapter-{index}" for index in range(TOGETHER)]
        for seed, name in enumerate(names):
            write(Path(folder) / name, config, args, seed)
        args.more = [word for name in names for word in ("--adapter", f"{name}={folder}/{name}")]
        server = Server("paligemma-server", args.binary, args, config["vision_config"].get("image_size", 224))
        try:
            measure(server, names, args)
        finally:
            server.stop()


def write(folder, config, args, seed):
    """An adapter as PEFT writes it, small enough that answers stay sane."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (inputs, outputs) in modules(config, args.vision).items():
        a = rng.standard_normal((args.rank, inputs), np.float32) * inputs**-0.5
        b = rng.standard_normal((outputs, args.rank), np.float32) * 0.01
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": args.rank, "lora_alpha": args.rank, "target_modules": TEXT}
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def modules(config, vision):
    """Inputs and outputs of every module, by its name in transformers 5."""
    text, images = config["text_config"], config["vision_config"]
    hidden, mlp, head = text["hidden_size"], text["intermediate_size"], text.get("head_dim", 256)
    heads, kv = text["num_attention_heads"] * head, text.get("num_key_value_heads", 1) * head
    found = {}
    for layer in range(text["num_hidden_layers"]):
        at = f"model.language_model.layers.{layer}"
        for name, out in (("q", heads), ("k", kv), ("v", kv)):
            found[f"{at}.self_attn.{name}_proj"] = (hidden, out)
        found[f"{at}.self_attn.o_proj"] = (heads, hidden)
        found[f"{at}.mlp.gate_proj"] = found[f"{at}.mlp.up_proj"] = (hidden, mlp)
        found[f"{at}.mlp.down_proj"] = (mlp, hidden)
    for layer in range(images["num_hidden_layers"] if vision else 0):
        for name in "qkv":
            at = f"model.vision_tower.encoder.layers.{layer}.self_attn.{name}_proj"
            found[at] = (images["hidden_size"], images["hidden_size"])
    return found


def measure(server, names, args):
    sides = {"base": None, "adapters": names}
    figures = {side: [] for side in sides}
    server.run(1000, 2, 4)  # warm
    for repeat in range(args.repeats):
        order = list(sides) if repeat % 2 == 0 else list(sides)[::-1]
        for side in order:
            answers = server.run(2 * repeat + list(sides).index(side), TOGETHER, args.tokens, sides[side])
            figures[side].append(summary(answers))
            print(f"round {repeat + 1}, {side}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures[side][-1].items()))
    for what in figures["base"][0]:
        ratios = [a[what] / b[what] for a, b in zip(figures["adapters"], figures["base"])]
        base = statistics.median(it[what] for it in figures["base"])
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{what}: {middle:.3f} ({low:.3f}-{high:.3f}) of the base's {base:.3f}")


def summary(answers):
    """Seconds: until the last request's first token; between tokens after that, for all; until the end."""
    first = max(answer["times"][0] for answer in answers)
    end = max(answer["times"][-1] for answer in answers)
    each = [b - a for answer in answers for a, b in zip(answer["times"], answer["times"][1:]) if a >= first]
    return {"prefill s": first, "between tokens s": statistics.median(each) if each else 0.0, "all s": end}


if __name__ == "__main__":
    main()
