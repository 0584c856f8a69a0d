"""What lies behind the shapes: f64 [height, width, 3] in 0..255."""

import numpy as np
from PIL import Image

from palette import BLENDS, FLAT, GREYS, PALE, rgb


def pale(rng, width, height):
    return _even(rgb(rng.choice(PALE)), width, height)


def flat(rng, width, height):
    return _even(rgb(rng.choice(FLAT)), width, height)


def grey(rng, width, height):
    if rng.random() < 0.6:
        return _even(rgb(rng.choice(GREYS)), width, height)
    first, last = rng.choice([0, 40, 120, 200, 255], 2, replace=False)
    return _blend(_ramp(rng, width, height), np.full(3, float(first)), np.full(3, float(last)))


def gradient(rng, width, height):
    first, last = (rgb(code) for code in BLENDS[rng.integers(len(BLENDS))])
    if rng.random() < 0.5:
        first, last = last, first
    if rng.random() < 0.65:
        return _blend(_ramp(rng, width, height), first, last)
    x, y = _axes(width, height)
    center = rng.uniform(0.2, 0.8, 2)
    far = np.hypot((x - center[0]) * width, (y - center[1]) * height)
    return _blend(far / far.max(), first, last)


def noisy(rng, width, height):
    """Grain of single pixels or of small blocks, in grey or in colour."""
    base = rgb(rng.choice(PALE + FLAT))
    block = int(rng.choice([1, 1, 2, 4]))
    size = (height // block + 1, width // block + 1, int(rng.choice([1, 3])))
    grain = rng.normal(0, rng.uniform(12, 30), size)
    grain = np.repeat(np.repeat(grain, block, 0), block, 1)[:height, :width]
    return np.clip(base + grain, 0, 255)


def photo(rng, width, height):
    """A wall, wood, grass, a sky, or lights out of focus; unevenly lit, with a camera's grain."""
    made = [_wall, _wood, _grass, _sky, _lights][rng.integers(5)](rng, width, height)
    x, y = _axes(width, height)
    light = 1.08 - rng.uniform(0.2, 0.5) * ((x - rng.uniform(0.2, 0.8)) ** 2 + (y - rng.uniform(0.2, 0.8)) ** 2)
    return np.clip(made * light[..., None] + rng.normal(0, 4, made.shape), 0, 255)


def _wall(rng, width, height):
    tone = rgb(rng.choice(["#cfc6b8", "#b9bcc0", "#8f8578", "#6f7276"]))
    return tone + (_clouds(rng, width, height, 6)[..., None] - 0.5) * 55


def _wood(rng, width, height):
    x, y = _axes(width, height)
    bent = y + 0.05 * _clouds(rng, width, height, 3) + 0.02 * x
    rings = 0.5 + 0.5 * np.sin(bent * rng.uniform(50, 110))
    fibre = _clouds(rng, width, height, 2, stretch=10)
    grain = 0.55 * rings + 0.45 * fibre
    dark, bright = (rgb(code) for code in [("#6b4a2f", "#94704e"), ("#b08d66", "#d3b48f")][rng.integers(2)])
    made = _blend(grain, dark, bright)
    seam = (y * rng.integers(2, 5)) % 1.0 < 0.015
    return np.where(seam[..., None], made * 0.6, made)


def _grass(rng, width, height):
    blades = 0.6 * _clouds(rng, width, height, 5) + 0.4 * rng.random((height, width))
    return _blend(blades, rgb("#33402a"), rgb("#7c8a5e"))


def _sky(rng, width, height):
    _, y = _axes(width, height)
    air = _blend(y, rgb("#8ea6bd"), rgb("#c9d3da"))
    cloud = np.clip(_clouds(rng, width, height, 5) * 2.4 - 1.0, 0, 1)[..., None]
    land = y > rng.uniform(0.7, 0.95) + 0.05 * _clouds(rng, width, height, 3)
    made = air * (1 - cloud) + 240 * cloud
    return np.where(land[..., None], rgb("#5a5a50") + 20 * _clouds(rng, width, height, 5)[..., None], made)


def _lights(rng, width, height):
    x, y = _axes(width, height)
    made = _blend(_clouds(rng, width, height, 2), rgb("#17181c"), rgb("#3a3733"))
    for _ in range(rng.integers(6, 14)):
        # Wide and soft, so that no light passes for a circle.
        cx, cy, radius = rng.random(), rng.random(), rng.uniform(0.08, 0.2) * min(width, height)
        far = np.hypot((x - cx) * width, (y - cy) * height)
        glow = np.exp(-((far / radius) ** 2))[..., None]
        made = made + glow * rgb(rng.choice(["#6a5a44", "#54585e", "#5c4a44"])) * 0.6
    return made


def _even(color, width, height):
    return np.broadcast_to(color, (height, width, 3)).copy()


def _axes(width, height):
    """x and y from 0 to 1, each [height, width]."""
    y, x = np.mgrid[0:height, 0:width]
    return x / width, y / height


def _ramp(rng, width, height):
    """[height, width] from 0 to 1 in any direction."""
    x, y = _axes(width, height)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    return (along - along.min()) / np.ptp(along)


def _blend(share, first, last):
    return first + np.asarray(share)[..., None] * (last - first)


def _clouds(rng, width, height, octaves, stretch=1):
    """[height, width] from 0 to 1: blotches of a third of the picture, and of half the size in each further octave."""
    total = np.zeros((height, width))
    for octave in range(octaves):
        cells = 3 * 2**octave
        coarse = rng.random((cells * stretch, cells)).astype(np.float32)
        grown = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(grown) / 2**octave
    return (total - total.min()) / np.ptp(total)
