"""Measures how long a real replica of the demo takes, for the simulator.

    python3 tools/scaling/measure.py --out tools/scaling/measured/demo.json

README.md says what is measured and how.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
from statistics import mean, median

import aiohttp

import real

TOKENS = 20  # of each answer
SIZES = range(1, real.SLOTS + 1)
PREFILL_TOKENS = 512  # the server's prefill_batch_tokens on a CPU
STAGES = ("queue_ms", "vision_ms", "prefill_ms", "decode_ms")


class Meter:
    """Asks one replica that takes all images of a request into one batch."""

    def __init__(self, client, replica, repeats):
        self.client, self.replica, self.repeats = client, replica, repeats
        self.numbers = itertools.count()

    async def batch(self, size):
        """Medians of a batch of so many new images: by stage, of the rest of the time, and of a prefix's tokens."""
        before = self.replica.metrics()
        samples = [await self._ask(size) for _ in range(self.repeats)]
        self._check_rows(size, before, self.replica.metrics())
        return {name: median(sample[name] for sample in samples) for name in samples[0]}

    async def _ask(self, size):
        files = [real.picture(next(self.numbers)) for _ in range(size)]
        latency, answer = await real.ask(self.client, self.replica.address, real.body(files, TOKENS))
        usage = answer["usage"]
        if usage["completion_tokens"] != size * TOKENS:
            raise SystemExit(f"{size} answers have {usage['completion_tokens']} tokens, not {TOKENS} each")
        stages = {name: answer["timings"][name] / 1000 for name in STAGES}
        prefix = (usage["image_tokens"] + usage["prompt_tokens"]) / size
        return stages | {"rest": latency - sum(stages.values()), "prefix": prefix}

    def _check_rows(self, size, before, after):
        """The metrics know whether all answers were decoded together."""
        name = "paligemma_decode_batch_size"
        rows, steps = (after[f"{name}_{part}"] - before[f"{name}_{part}"] for part in ("sum", "count"))
        if rows != size * steps:
            raise SystemExit(f"{rows / steps:.2f} answers shared a step, not {size}")


async def batches(client, args):
    replica = real.Replica(args.binary, args.real_time, "--prefill-batch-tokens", "4096", "--image-cache", "0")
    meter = Meter(client, replica, args.repeats)
    await meter.batch(1)  # the first requests are slower
    measured = {size: await meter.batch(size) for size in SIZES}
    replica.stop()
    return measured


async def slowdown(client, args):
    """How much longer a request takes while 1, 2 and 3 replicas are busy all the time."""
    replicas = [real.Replica(args.binary, args.real_time, "--image-cache", "0") for _ in range(3)]
    await ask_all(client, replicas, 1)  # the first requests are slower
    latency = {}
    for busy in range(1, len(replicas) + 1):
        latency[busy] = mean(await ask_all(client, replicas[:busy], args.seconds))
    for replica in replicas:
        replica.stop()
    return {busy: seconds / latency[1] for busy, seconds in latency.items()}


async def ask_all(client, replicas, seconds):
    """Keeps replicas busy for so long; latencies of all their requests."""
    asked = [
        real.ask_for(client, replica.address, seconds, 1_000_000 * (place + 1), TOKENS)
        for place, replica in enumerate(replicas)
    ]
    return list(itertools.chain(*await asyncio.gather(*asked)))


async def measure(args):
    async with aiohttp.ClientSession() as client:
        return await batches(client, args), await slowdown(client, args)


def service(measured, slowdown):
    """The fields of service.Service."""
    stage = {name: {size: round(measured[size][name], 6) for size in SIZES} for name in STAGES}
    return {
        "name": "the demo, q8_0, one thread",
        "source": "tools/scaling/measure.py",
        "vision": stage["vision_ms"],
        "prefill": stage["prefill_ms"],
        "step": {size: round(seconds / (TOKENS - 1), 6) for size, seconds in stage["decode_ms"].items()},
        "prepare": round(measured[1]["rest"], 6),
        "decode_threads": real.DECODE_THREADS,
        "slots": real.SLOTS,
        "prefill_batch": int(PREFILL_TOKENS // measured[1]["prefix"]),
        "max_token_gap": real.MAX_TOKEN_GAP,
        "slowdown": {busy: round(factor, 3) for busy, factor in slowdown.items()},
    }


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=real.BINARY, help="the server [default: target/release/paligemma-server]")
    parser.add_argument("--repeats", type=int, default=30, help="requests of each size")
    parser.add_argument("--seconds", type=float, default=10, help="for each number of busy replicas")
    parser.add_argument("--real-time", action="store_true", help="run before all other processes; needs root")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def main():
    args = parse()
    with contextlib.ExitStack() as stack:
        if args.real_time:
            stack.enter_context(real.short_turns())
            real.use_real_time(real.CLIENTS_PRIORITY)
        measured = service(*asyncio.run(measure(args)))
    with open(args.out, "w") as file:
        json.dump(measured, file, indent=2)
        file.write("\n")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
