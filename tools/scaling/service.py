"""How long a replica takes, as measured."""

import json
from dataclasses import dataclass, replace
from pathlib import Path


class Times:
    """Seconds by size of a batch. What lies between two measured sizes, or beyond them, is on a line."""

    def __init__(self, table):
        self.points = sorted((int(size), seconds) for size, seconds in table.items())
        self.known = {}

    def __call__(self, size):
        if size not in self.known:
            self.known[size] = self._line(size)
        return self.known[size]

    def slower(self, factor):
        return Times({size: factor * seconds for size, seconds in self.points})

    def _line(self, size):
        if len(self.points) == 1:
            return self.points[0][1]
        above = next((i for i, point in enumerate(self.points) if point[0] >= size), len(self.points) - 1)
        (x0, y0), (x1, y1) = self.points[max(above, 1) - 1], self.points[max(above, 1)]
        return y0 + (y1 - y0) * (size - x0) / (x1 - x0)


@dataclass(frozen=True)
class Service:
    """One kind of replica. Times are in seconds."""

    name: str
    source: str
    vision: Times  # so many new images in the vision tower
    prefill: Times  # so many images and prompts in the decoder, up to their first tokens
    step: Times  # one more token for so many answers
    prepare: float  # receiving the request, decoding its image, and sending the answer
    decode_threads: int
    slots: int
    prefill_batch: int  # most requests that are prefilled together
    max_token_gap: float  # most of a prefill between two steps of decoding
    slowdown: Times  # of everything, by how many replicas of one machine are busy

    def slower(self, factor):
        """The same on a machine that takes so many times as long for everything."""
        times = {name: getattr(self, name).slower(factor) for name in ("vision", "prefill", "step")}
        return replace(self, **times, prepare=factor * self.prepare)

    @classmethod
    def read(cls, file):
        fields = json.loads(Path(file).read_text())
        tables = {name: Times(fields[name]) for name in ("vision", "prefill", "step", "slowdown")}
        return cls(**{name: fields[name] for name in cls.__annotations__} | tables)
