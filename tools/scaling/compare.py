"""Sends the same arrivals to three real replicas and to the simulator, and compares their latencies.

    python3 tools/scaling/compare.py tools/scaling/measured/demo.json --out tools/scaling/measured/comparison.json

README.md says what makes the comparison fair.
"""

import argparse
import asyncio
import contextlib
import json
import time
from statistics import mean, median

import aiohttp

import real
import workload
from routing import ROUTINGS
from service import Service
from simulate import quantile, simulate

REPLICAS = 3
COMPARED = ("round robin", "least queue", "affinity")


class Router:
    """Passes requests on to real replicas, each about an image that its key names."""

    def __init__(self, client, replicas, routing):
        self.client, self.replicas = client, replicas
        self.routing, self.under_way = ROUTINGS[routing](len(replicas)), [0] * len(replicas)

    async def ask(self, body, key):
        picked = self.routing.pick(key, self.under_way)
        self.under_way[picked] += 1
        try:
            _, answer = await real.ask(self.client, self.replicas[picked].address, body, {"x-image-key": key})
        finally:
            self.under_way[picked] -= 1
        return answer


async def send(router, arrivals, files):
    """Sends each request when it arrives: latencies from then on, in seconds, the share of cached images, and the
    mean time in the vision tower of the others."""
    bodies = [real.body([files[arrival.image]], arrival.tokens) for arrival in arrivals]
    keys = [real.key(file) for file in files]
    began = time.perf_counter() + 0.1

    async def one(arrival, body):
        await asyncio.sleep(began + arrival.time - time.perf_counter())
        answer = await router.ask(body, keys[arrival.image])
        latency = time.perf_counter() - began - arrival.time
        if answer["usage"]["completion_tokens"] != arrival.tokens:
            raise SystemExit(f"an answer has {answer['usage']['completion_tokens']} tokens, not {arrival.tokens}")
        return latency, answer["timings"]["vision_ms"] / 1000

    answers = await asyncio.gather(*(one(*pair) for pair in zip(arrivals, bodies)))
    latencies, vision = zip(*answers)
    new = [seconds for seconds in vision if seconds > 0]
    return list(latencies), 1 - len(new) / len(vision), mean(new)


async def measured(args, routing, arrivals, files):
    cache = args.cached_images * real.FEATURES
    replicas = [real.Replica(args.binary, args.real_time, "--image-cache", f"{cache}B") for _ in range(REPLICAS)]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        for replica in replicas:  # the first requests are slower
            await real.ask_for(client, replica.address, 0.5, len(files), 10)
        result = await send(Router(client, replicas, routing), arrivals, files)
    for replica in replicas:
        replica.stop()
    return result


def summary(latencies, cached, vision):
    return {"mean": mean(latencies), "p99": quantile(latencies, 0.99), "cached": cached, "vision": vision}


def round_(args, rate, routing, seed, files):
    """One run of both sides with the same arrivals. The simulator also runs at the pace at which the machine computed
    then: that of the vision tower, whose time has nothing to do with queues."""
    arrivals = workload.arrivals(rate, args.seconds, len(files), args.popularity, args.tokens, seed)
    keys = [real.key(file) for file in files]
    service = Service.read(args.service)
    shared = {"key": keys.__getitem__, "shared_machine": True}

    def simulated(service):
        result = simulate(service, arrivals, REPLICAS, routing, args.cached_images, **shared)
        return summary(result.latencies, result.cached, result.vision)

    sides = {"measured": summary(*asyncio.run(measured(args, routing, arrivals, files)))}
    sides["simulated"] = simulated(service)
    pace = sides["measured"]["vision"] / sides["simulated"]["vision"]
    sides["at_pace"] = simulated(service.slower(pace))
    return {"rate": rate, "routing": routing, "seed": seed, "requests": len(arrivals), "pace": pace, **sides}


def ratio(each, side, name):
    return each[side][name] / each["measured"][name]


def show(rounds):
    """Medians, the lowest and the highest ratio to what was measured, and how many runs agree."""
    for rate, routing in dict.fromkeys((each["rate"], each["routing"]) for each in rounds):
        same = [each for each in rounds if (each["rate"], each["routing"]) == (rate, routing)]
        cached = median(each["measured"]["cached"] for each in same)
        pace = median(each["pace"] for each in same)
        print(f"{rate:g} a second, {routing}: {len(same)} runs, {cached:.0%} cached, pace {pace:.2f}")
        for name in ("mean", "p99"):
            parts = [f"  {name:4} {1000 * median(each['measured'][name] for each in same):6.1f} ms"]
            for side in ("simulated", "at_pace"):
                ratios = sorted(ratio(each, side, name) for each in same)
                middle = 1000 * median(each[side][name] for each in same)
                parts.append(f"{side} {middle:6.1f} ms, {median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})")
            print("  ".join(parts))
    for name in ("mean", "p99"):
        for side in ("simulated", "at_pace"):
            within = sum(abs(ratio(each, side, name) - 1) <= 0.2 for each in rounds)
            print(f"{side}: the {name} of {within} in {len(rounds)} runs is within 20 %")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", help="what measure.py measured on this machine")
    parser.add_argument("--binary", default=real.BINARY, help="the server [default: target/release/paligemma-server]")
    parser.add_argument("--rates", type=float, nargs="+", default=[25, 50], help="requests a second")
    parser.add_argument("--seconds", type=float, default=30, help="of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each rate and routing, with other arrivals")
    parser.add_argument("--images", type=int, default=300, help="different images that are asked about")
    parser.add_argument("--popularity", type=float, default=0.8, help="exponent of their popularity; 0: all alike")
    parser.add_argument("--cached-images", type=int, default=40, help="images whose features a replica keeps")
    parser.add_argument("--tokens", type=int, nargs=2, default=[10, 20], help="fewest and most tokens of an answer")
    parser.add_argument("--real-time", action="store_true", help="run before all other processes; needs root")
    parser.add_argument("--out", required=True, help="the file for the results")
    return parser.parse_args()


def main():
    args = parse()
    with contextlib.ExitStack() as stack:
        if args.real_time:
            stack.enter_context(real.short_turns())
            real.use_real_time(real.CLIENTS_PRIORITY)
        show(all_rounds(args))


def all_rounds(args):
    files = [real.picture(number) for number in range(args.images)]
    rounds = []
    for seed in range(1, args.repeats + 1):
        for rate in args.rates:
            for routing in COMPARED:
                rounds.append(round_(args, rate, routing, seed, files))
                with open(args.out, "w") as file:
                    json.dump(rounds, file, indent=1)
    return rounds


if __name__ == "__main__":
    main()
