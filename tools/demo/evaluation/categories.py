"""The categories: each draws the plainest scenes but for one thing."""

from dataclasses import dataclass
from typing import Callable

import numpy as np

import questions
import scene as scenes
from scene import Look


@dataclass(frozen=True)
class Category:
    name: str
    look: Look
    ask: Callable = questions.whole  # (scene, rng) to prompts


def _with_text(scene, rng):
    return questions.whole(scene, rng) + questions.read(scene, rng)


CATEGORIES = [
    Category("plain", Look()),
    Category("small", Look(across=(0.10, 0.15))),
    Category("turned", Look(turned=True)),
    Category("hollow", Look(style="hollow")),
    Category("outlined", Look(style="outlined")),
    Category("pastel", Look(shades="pastel")),
    Category("dark", Look(shades="dark")),
    Category("grey", Look(shades="grey", ground="grey")),
    Category("aliased", Look(smooth=False)),
    Category("flat ground", Look(ground="flat")),
    Category("gradient ground", Look(ground="gradient")),
    Category("noisy ground", Look(ground="noisy")),
    Category("photo-like ground", Look(ground="photo")),
    Category("five or six shapes", Look(count=(5, 6), across=(0.16, 0.28))),
    Category("overlapping", Look(count=(2, 4), overlap=True)),
    Category("text beside", Look(count=(1, 3), beside=(1, 2)), _with_text),
    Category("words", Look(count=(0, 0), lines=(1, 3)), questions.read),
    Category("numbers", Look(count=(0, 0), lines=(1, 3), writes="numbers"), questions.read),
    Category("region of one", Look(count=(2, 4)), questions.region(1)),
    Category("region of two", Look(count=(3, 4)), questions.region(2)),
    Category("one phrase", Look(count=(1, 4), distinct=True), questions.present(1)),
    Category("two phrases", Look(count=(2, 4), distinct=True), questions.present(2)),
    Category("three phrases", Look(count=(3, 4), distinct=True), questions.present(3)),
    Category("four phrases", Look(count=(4, 4), distinct=True), questions.present(4)),
    Category("five phrases", Look(count=(5, 6), across=(0.16, 0.28), distinct=True), questions.present(5)),
    Category("six phrases", Look(count=(6, 6), across=(0.16, 0.28), distinct=True), questions.present(6)),
    Category("absent phrases", Look(), questions.absent),
]


def numbered(seed, index):
    """Category, scene and prompts of that number; the categories take turns."""
    category = CATEGORIES[index % len(CATEGORIES)]
    rng = np.random.default_rng([seed, index])
    while True:
        scene = scenes.make(category.look, rng)
        prompts = category.ask(scene, rng)
        if prompts:
            return category, scene, prompts
