"""Words and numbers in several fonts, and where each character is drawn."""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageDraw, ImageFont

# From the Debian packages in README.md.
FONTS = Path("/usr/share/fonts/truetype")
FAMILIES = ["DejaVu*", "Liberation*", "Free*", "Lato-*", "Roboto*", "OpenSans-*", "Arimo*", "Tinos*", "Cousine*"]
LEFT_OUT = ("Math", "Thin", "Hairline", "ExtraLight", "ExtBd", "ExtraCond", "Narrow")

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
ONSETS = "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gr pl pr qu sh sl sp st str th tr wh".split()
VOWELS = "a e i o u y ai ea ee oa oo ou".split()
ENDS = "b d f g k l m n p r s t w x ck ll nd ng nt rd rn rt ss st sh th".split()
COMMON = (
    "the and you not all can had her was one our out day get has him his how man new now old see two way who boy did "
    "its let put say she too use dad mom open stop exit sale free left right push pull hello world time year good work "
    "first last long great little own other big high small large next early young few public same able water coffee "
    "tea milk bread house home car bus train city street road green blue red black white yellow orange pink cat dog "
    "fish bird tree sun moon star north south east west monday friday june july max zoo box quiz jazz key job fox"
).split()
MIN_SIZE = 13  # of a font, as the model sees it


@dataclass
class Text:
    words: str
    font: str
    size: int
    at: tuple  # left end of the baseline, in pixels
    box: tuple  # x0, y0, x1, y1 in pixels
    rgb: tuple
    smooth: bool
    characters: list  # (character, x, y) of each one's middle, in 0..1

    def draw(self, canvas):
        brush = ImageDraw.Draw(canvas)
        brush.fontmode = "L" if self.smooth else "1"
        brush.text(self.at, self.words, font=opened(self.font, self.size), fill=self.rgb, anchor="ls")


@cache
def font_files():
    files = sorted({str(f) for family in FAMILIES for f in FONTS.rglob(family + ".ttf")})
    files = [f for f in files if not any(word in Path(f).name for word in LEFT_OUT)]
    if not files:
        raise SystemExit(f"no fonts in {FONTS}; README.md names the packages")
    return files


@lru_cache(4000)
def opened(file, size):
    return ImageFont.truetype(file, size)


def _pick(rng, items):
    return items[rng.integers(len(items))]


def word(rng):
    """A word or number of 1 to 8 characters: common, made up, or of any letters."""
    style = rng.random()
    if style < 0.28:
        return "".join(str(d) for d in rng.integers(0, 10, rng.integers(1, 6)))
    if style < 0.5:
        text = _pick(rng, COMMON)
    elif style < 0.8:
        text = "".join(_pick(rng, ONSETS) + _pick(rng, VOWELS) for _ in range(rng.integers(1, 3))) + _pick(rng, ENDS)
    else:
        text = "".join(_pick(rng, CHARACTERS[:26]) for _ in range(rng.integers(1, 8)))
    case = rng.random()
    return text[:8].upper() if case < 0.4 else text[:8].capitalize() if case < 0.6 else text[:8]


def _placed(words, file, size, at, rgb, smooth, picture):
    font = opened(file, size)
    ends = [font.getlength(words[: i + 1]) for i in range(len(words))]
    middle = at[1] - 0.33 * size
    characters = [
        (c, (at[0] + (end + start) / 2) / picture[0], middle / picture[1])
        for c, start, end in zip(words, [0.0, *ends], ends)
        if c != " "
    ]
    box = (at[0], at[1] - 0.8 * size, at[0] + ends[-1], at[1] + 0.25 * size)
    return Text(words, file, size, at, box, rgb, smooth, characters)


def readable(rng, ground):
    """A colour that stands out from a ground's colour."""
    dark = float(np.dot(ground, (0.3, 0.59, 0.11))) > 128
    if rng.random() < 0.55:
        return (int(rng.integers(0, 50)),) * 3 if dark else (int(rng.integers(205, 256)),) * 3
    rgb = rng.uniform(0, 120, 3) if dark else rng.uniform(140, 255, 3)
    return tuple(rgb.astype(int).tolist())


def page(rng, picture, ground, seen):
    """One to four words in one to three lines that fill a picture of that size in pixels.

    `seen` is the side of the picture that the model sees.
    """
    width, height = picture
    file, smooth, rgb = _pick(rng, font_files()), rng.random() < 0.85, readable(rng, ground)
    lines = []
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12])):
        lines.append(" ".join(word(rng) for _ in range(rng.choice([1, 2], p=[0.7, 0.3]))))
    least = MIN_SIZE * max(height, width) / seen
    longest = max(opened(file, 100).getlength(line) / 100 for line in lines)
    most = min(0.94 * width / longest, 0.9 * height / (1.25 * len(lines)), 0.42 * height)
    if most < least:
        lines, most = [word(rng)[:5]], least * 1.2
    size = int(rng.uniform(max(least, 0.35 * most), most))
    pitch = size * rng.uniform(1.1, 1.3)
    y = rng.uniform(0.85 * size, max(height - 0.3 * size - pitch * (len(lines) - 1), 0.86 * size))
    centred = rng.random() < 0.5
    left = None
    placed = []
    for i, line in enumerate(lines):
        length = opened(file, size).getlength(line)
        room = max(width - length, 1)
        if left is None or centred or left > room:
            left = room / 2 if centred else rng.uniform(0.02, 0.98) * room
        placed.append(_placed(line, file, size, (left, y + i * pitch), rgb, smooth, picture))
    return placed


def beside(rng, picture, boxes, ground, seen):
    """A word between the boxes (x0, y0, x1, y1 in pixels), or None if there is no room."""
    width, height = picture
    least = MIN_SIZE * max(height, width) / seen
    size, words = int(least * rng.uniform(1.0, 1.8)), word(rng)
    file = _pick(rng, font_files())
    length = opened(file, size).getlength(words)
    for _ in range(12):
        if length > 0.95 * width:
            return None
        at = (rng.uniform(0, width - length), rng.uniform(0.85 * size, height - 0.3 * size))
        text = _placed(words, file, size, at, readable(rng, ground), rng.random() < 0.85, picture)
        x0, y0, x1, y1 = text.box
        if all(x1 < b[0] or b[2] < x0 or y1 < b[1] or b[3] < y0 for b in boxes):
            return text
    return None
