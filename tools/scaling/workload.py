"""Requests that arrive at random: when, about which image, and how long their answers are."""

import hashlib
import itertools
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Arrival:
    time: float
    image: int
    tokens: int  # of the answer


def arrivals(rate, seconds, images, popularity, tokens, seed):
    """Poisson arrivals, `rate` a second. The image of rank r is asked for in proportion to r ** -popularity."""
    random_ = random.Random(seed)
    weights = list(itertools.accumulate(rank**-popularity for rank in range(1, images + 1)))
    time, made = 0.0, []
    while True:
        time += random_.expovariate(rate)
        if time >= seconds:
            return made
        [image] = random_.choices(range(images), cum_weights=weights)
        made.append(Arrival(time, image, random_.randint(*tokens)))


def at_once(count, tokens, seed):
    """So many requests at the same moment, each about an image of its own."""
    random_ = random.Random(seed)
    return [Arrival(0.0, image, random_.randint(*tokens)) for image in range(count)]


def key(image):
    """Stands for the SHA-256 of a simulated image's file."""
    return hashlib.sha256(b"%d" % image).hexdigest()
