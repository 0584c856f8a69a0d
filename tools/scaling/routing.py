"""Which replica gets a request: the same code routes in the simulator and before real servers."""

import bisect
import hashlib
import math

PLACES = 100  # of each replica on the ring: more spread the keys more evenly


class RoundRobin:
    """One after the other."""

    def __init__(self, replicas):
        self.replicas, self.next = replicas, 0

    def pick(self, key, under_way):
        picked = self.next
        self.next = (picked + 1) % self.replicas
        return picked


class LeastQueue:
    """The replica with the fewest requests under way; equals take turns."""

    def __init__(self, replicas):
        self.turns = RoundRobin(replicas)

    def pick(self, key, under_way):
        first, count = self.turns.pick(key, under_way), len(under_way)
        return min((index % count for index in range(first, first + count)), key=under_way.__getitem__)


class Affinity:
    """The replica that owns the image's key on a ring (consistent hashing)."""

    def __init__(self, replicas):
        places = [(_position(f"{replica}/{place}"), replica) for replica in range(replicas) for place in range(PLACES)]
        self.positions, self.owners = zip(*sorted(places))

    def pick(self, key, under_way):
        return next(self._from(key))

    def _from(self, key):
        """Replicas in the ring's order, beginning with the key's owner."""
        first = bisect.bisect(self.positions, _position(key))
        return (self.owners[index % len(self.owners)] for index in range(first, first + len(self.owners)))


class AffinityWithSpill(Affinity):
    """The key's owner, unless it has much more to do than the mean: then the next one on the ring."""

    SPILL = 1.25  # times the mean of requests under way that a replica may have

    def pick(self, key, under_way):
        most = math.ceil(self.SPILL * (sum(under_way) + 1) / len(under_way))
        return next(replica for replica in self._from(key) if under_way[replica] < most)


def _position(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


ROUTINGS = {
    "round robin": RoundRobin,
    "least queue": LeastQueue,
    "affinity": Affinity,
    "affinity with spill": AffinityWithSpill,
}
