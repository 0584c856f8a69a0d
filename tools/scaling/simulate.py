"""Simulates replicas of the server under random arrivals, event by event.

    python3 tools/scaling/simulate.py tools/scaling/measured/paligemma-3b-224-bf16-h100.json --replicas 10 --rate 1000

README.md says what is modelled and what is not.
"""

import argparse
import heapq
import itertools
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from statistics import mean

import workload
from routing import ROUTINGS
from service import Service


class Machine:
    """What its replicas compute on. While n of them are busy, each is slower by the measured factor."""

    def __init__(self, slowdown, wake):
        self.slowdown, self.wake = slowdown, wake
        self.now = self.work = 0.0
        self.tasks, self.order = [], itertools.count()

    def run(self, now, seconds, done):
        """Runs a task that takes so long on an idle machine, and then calls `done`."""
        self._advance(now)
        heapq.heappush(self.tasks, (self.work + seconds, next(self.order), done))
        self._wake_at_next_end()

    def finish_next(self, now):
        self._advance(now)
        _, _, done = heapq.heappop(self.tasks)
        if self.tasks:
            self._wake_at_next_end()
        done(now)

    def _advance(self, now):
        """All tasks progress alike, so one clock of work done counts for all of them."""
        self.work += (now - self.now) * self._speed()
        self.now = now

    def _speed(self):
        return 1 / self.slowdown(max(len(self.tasks), 1))

    def _wake_at_next_end(self):
        self.wake(self, self.now + max(self.tasks[0][0] - self.work, 0.0) / self._speed())


@dataclass(eq=False)
class Request:
    arrival: workload.Arrival
    finished: object  # called with the time of its end


class Batch:
    """Requests that are prefilled together, and the seconds of work that are left."""

    def __init__(self, now, requests, new_images, service):
        self.begun, self.requests, self.new_images = now, requests, new_images
        self.vision = service.vision(len(new_images)) if new_images else 0.0
        self.prefill = service.prefill(len(requests))

    def take(self, most):
        """The next slice of the work."""
        stage = "vision" if self.vision > 0 else "prefill"
        taken = min(getattr(self, stage), most)
        setattr(self, stage, getattr(self, stage) - taken)
        return taken


class Replica:
    """One server: threads that decode images, a queue, and an engine that runs one step after the other."""

    def __init__(self, service, machine, cached_images):
        self.service, self.machine, self.cached_images = service, machine, cached_images
        self.unprepared, self.preparing = deque(), 0
        self.queue, self.batch, self.is_busy = deque(), None, False
        self.rows, self.steps, self.order = [], 0, itertools.count()
        self.cache, self.hits = OrderedDict(), 0
        self.busy_seconds = self.waiting_seconds = 0.0
        self.vision_seconds, self.encoded = 0.0, 0

    def submit(self, now, request):
        self.unprepared.append(request)
        self._prepare(now)

    def _prepare(self, now):
        while self.unprepared and self.preparing < self.service.decode_threads:
            request = self.unprepared.popleft()
            self.preparing += 1
            self.machine.run(now, self.service.prepare, lambda end, request=request: self._prepared(end, request))

    def _prepared(self, now, request):
        self.preparing -= 1
        self.queue.append(request)
        self._prepare(now)
        if not self.is_busy:
            self._step(now)

    def _step(self, now):
        """Begins a step: a token for each row, and a slice of the batch that is being prefilled."""
        if self.batch is None:
            self.batch = self._next_batch(now)
        self.is_busy = bool(self.batch or self.rows)
        if not self.is_busy:
            return
        seconds = self.service.step(len(self.rows)) if self.rows else 0.0
        if self.batch:
            seconds += self.batch.take(self.service.max_token_gap)
        self.busy_seconds += seconds
        self.machine.run(now, seconds, self._stepped)

    def _next_batch(self, now):
        free = self.service.slots - len(self.rows)
        count = min(free, len(self.queue), self.service.prefill_batch)
        if count == 0:
            return None
        requests = [self.queue.popleft() for _ in range(count)]
        self.waiting_seconds += sum(now - request.arrival.time for request in requests)
        images = {request.arrival.image for request in requests}
        new = {image for image in images if image not in self.cache}
        self.hits += count - len(new)
        for image in images - new:
            self.cache.move_to_end(image)
        return Batch(now, requests, new, self.service)

    def _stepped(self, now):
        self.steps += 1
        while self.rows and self.rows[0][0] <= self.steps:
            heapq.heappop(self.rows)[2].finished(now)
        if self.batch and self.batch.vision == 0:
            self.vision_seconds += len(self.batch.new_images) * (now - self.batch.begun)
            self.encoded += len(self.batch.new_images)
            self._keep(self.batch.new_images)
            self.batch.new_images = ()
            if self.batch.prefill == 0:
                self._begin_decoding(now, self.batch.requests)
                self.batch = None
        self._step(now)

    def _keep(self, images):
        self.cache.update(dict.fromkeys(images))
        while len(self.cache) > self.cached_images:
            self.cache.popitem(last=False)

    def _begin_decoding(self, now, requests):
        """The prefill gave each its first token; the others take a step each."""
        for request in requests:
            if request.arrival.tokens == 1:
                request.finished(now)
            else:
                end = self.steps + request.arrival.tokens - 1
                heapq.heappush(self.rows, (end, next(self.order), request))


@dataclass(frozen=True)
class Result:
    latencies: list  # seconds, in the order of arrivals
    cached: float  # share of requests whose image was cached
    busy: float  # share of the time in which an engine computes, if its machine is its own
    waiting: float  # requests of a replica that wait for its engine, on average
    vision: float  # seconds that a new image's batch takes in the vision tower, on average
    seconds: float  # until the last answer


def simulate(service, arrivals, replicas, routing, cached_images, key=workload.key, shared_machine=False):
    """Runs all arrivals to their ends."""
    wakes, order = [], itertools.count()
    latest = {}

    def wake(machine, time):
        latest[machine] = number = next(order)
        heapq.heappush(wakes, (time, number, machine))

    machines = [Machine(service.slowdown, wake) for _ in range(1 if shared_machine else replicas)]
    servers = [Replica(service, machines[i % len(machines)], cached_images) for i in range(replicas)]
    router, under_way = ROUTINGS[routing](replicas), [0] * replicas
    ends = [0.0] * len(arrivals)

    def arrive(index, arrival):
        picked = router.pick(key(arrival.image), under_way)
        under_way[picked] += 1

        def finished(now):
            under_way[picked] -= 1
            ends[index] = now

        servers[picked].submit(arrival.time, Request(arrival, finished))

    def work_until(time):
        while wakes and wakes[0][0] <= time:
            now, number, machine = heapq.heappop(wakes)
            if latest[machine] == number:
                machine.finish_next(now)

    for index, arrival in enumerate(arrivals):
        work_until(arrival.time)
        arrive(index, arrival)
    work_until(float("inf"))
    server_seconds = replicas * max(ends)
    return Result(
        latencies=[end - arrival.time for end, arrival in zip(ends, arrivals)],
        cached=sum(server.hits for server in servers) / len(arrivals),
        busy=sum(server.busy_seconds for server in servers) / server_seconds,
        waiting=sum(server.waiting_seconds for server in servers) / server_seconds,
        vision=sum(server.vision_seconds for server in servers) / max(sum(server.encoded for server in servers), 1),
        seconds=max(ends),
    )


def quantile(values, share):
    """The smallest value that is not below this share of all values."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", help="measured times: a file of tools/scaling/measured")
    parser.add_argument("--replicas", type=int, default=3)
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=float, help="requests a second, of all replicas together")
    load.add_argument("--at-once", type=int, help="so many requests at the same moment, about different images")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=100_000, help="different images that are asked about")
    parser.add_argument("--popularity", type=float, default=0.8, help="exponent of their popularity; 0: all alike")
    parser.add_argument("--cached-images", type=int, default=120, help="images whose features a replica keeps")
    parser.add_argument("--tokens", type=int, nargs=2, default=[10, 20], help="fewest and most tokens of an answer")
    parser.add_argument("--prepare", type=float, help="seconds to receive a request and to decode its image")
    parser.add_argument("--decode-threads", type=int, help="images that a replica decodes at the same time")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def given_arrivals(args):
    if args.at_once:
        return workload.at_once(args.at_once, args.tokens, args.seed)
    return workload.arrivals(args.rate, args.seconds, args.images, args.popularity, args.tokens, args.seed)


def main():
    args = parse()
    given = {name: getattr(args, name) for name in ("prepare", "decode_threads") if getattr(args, name)}
    service = replace(Service.read(args.service), **given)
    arrivals = given_arrivals(args)
    print(f"{service.name}, {args.replicas} replicas, {len(arrivals)} requests")
    for routing in ROUTINGS:
        result = simulate(service, arrivals, args.replicas, routing, args.cached_images)
        tokens = sum(arrival.tokens for arrival in arrivals) / result.seconds
        parts = [f"mean {mean(result.latencies):7.3f} s", f"p99 {quantile(result.latencies, 0.99):7.3f} s"]
        parts += [f"cached {result.cached:4.0%}", f"busy {result.busy:4.0%}"]
        parts += [f"waiting {result.waiting:5.1f}", f"{tokens:7.4g} tokens/s in all"]
        print(f"{routing:20}", *parts, sep="  ")


if __name__ == "__main__":
    main()
