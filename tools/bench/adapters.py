"""What LoRA adapters cost: eight requests at once on as many adapters, compared with eight on the base.

Both are answered by one server, in turns, about new pictures of noise. The adapters lie in the checkpoint's folder:

    cargo run --release --example random_checkpoint -- --shape paligemma-3b-224 --out DIR --adapters 8
    python tools/bench/adapters.py --checkpoint DIR --binary target/release/paligemma-server
"""

import argparse
import json
import statistics
from pathlib import Path

from server import Server

TOGETHER = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--binary", default="target/release/paligemma-server")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    args.slots = TOGETHER
    config = json.loads((args.checkpoint / "config.json").read_text())
    names = [f"adapter-{number}" for number in range(1, TOGETHER + 1)]
    adapters = [word for name in names for word in ("--adapter", f"{name}={args.checkpoint / name}")]
    server = Server("paligemma-server", args.binary, args, config["vision_config"]["image_size"], adapters)
    try:
        measure(server, names, args)
    finally:
        server.stop()


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
