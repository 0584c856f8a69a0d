"""What shapes lie on: plain, graded, noisy, patterned and photo-like grounds."""

from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

NEUTRAL = {"white": (205, 255), "gray": (95, 175), "black": (0, 50)}
NAMES = [*NEUTRAL, "colored", "textured"]
STYLES = ["plain", "gradient", "noisy", "pattern", "photo"]
SHARES = [0.34, 0.14, 0.16, 0.1, 0.26]

POOL, POOL_SIDE = 12, 640  # pictures of noise that are drawn once and cut from: new noise would take too long


@cache
def _noise_pool(colored):
    """Noise around 128 with a standard deviation of 20 grey levels."""
    rng = np.random.default_rng([77, colored])
    shape = (POOL, POOL_SIDE, POOL_SIDE) + ((3,) if colored else ())
    noise = 128 + 20 * rng.standard_normal(shape, np.float32)
    images = [Image.fromarray(one) for one in np.clip(noise, 0, 255).astype(np.uint8)]
    return images if colored else [Image.merge("RGB", (one,) * 3) for one in images]


def with_noise(rng, image, level):
    """The picture with grain of `level` grey levels."""
    noise = _noise_pool(bool(rng.random() < 0.5))[rng.integers(POOL)]
    x, y = rng.integers(POOL_SIDE - image.width), rng.integers(POOL_SIDE - image.height)
    noise = noise.crop((x, y, x + image.width, y + image.height))
    strength = min(level / 20, 1.0)
    # add() scales the sum: half of both, then twice, would lose a bit; so the noise is weakened first.
    table = [round(128 + (v - 128) * strength) for v in range(256)] * 3
    return ImageChops.add(image, noise.point(table), 1.0, -128)


def _upscaled(grid, size):
    """f32 [k, k, 3] as a smooth picture of that size."""
    small = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def _base(rng):
    """A ground's name and colour: mostly a shade of grey, else any."""
    if rng.random() < 0.7:
        name = list(NEUTRAL)[rng.choice(3, p=[0.5, 0.25, 0.25])]
        low, high = NEUTRAL[name]
        return name, np.clip(rng.uniform(low, high) + rng.uniform(-7, 7, 3), 0, 255)
    light, colour = rng.uniform(20, 235), rng.standard_normal(3)
    colour -= colour.mean()
    colour *= rng.uniform(18, 60) / np.abs(colour).max()
    return "colored", np.clip(light + colour, 0, 255)


def _pattern(rng, image, rgb):
    """Stripes, a grid or dots that stand out a little."""
    brush = ImageDraw.Draw(image)
    ink = tuple(np.clip(np.array(rgb) + rng.choice([-1, 1]) * rng.uniform(10, 45), 0, 255).astype(int).tolist())
    step, style = int(rng.integers(8, 40)), rng.integers(4)
    width = int(rng.integers(1, max(step // 2, 2)))
    if style != 1:
        for y in range(int(rng.integers(step)), image.height, step):
            brush.line([(0, y), (image.width, y)], fill=ink, width=width)
    if style in (1, 2):
        for x in range(int(rng.integers(step)), image.width, step):
            brush.line([(x, 0), (x, image.height)], fill=ink, width=width)
    return image.rotate(rng.uniform(-45, 45), fillcolor=image.getpixel((0, 0))) if style == 3 else image


def _clutter(rng, image):
    """Things without a name: long strips and blurred patches, near the colours that are there already."""
    brush = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 7)):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        seen = image.getpixel((int(x), int(y)))
        ink = tuple(np.clip(np.array(seen) + rng.uniform(-28, 28, 3), 0, 255).astype(int).tolist())
        if rng.random() < 0.6:
            dx, dy = rng.uniform(-1, 1, 2) * image.width
            brush.line([(x - dx, y - dy), (x + dx, y + dy)], fill=ink, width=int(rng.integers(1, 30)))
        else:
            points = rng.uniform(-0.5, 0.5, (7, 2)) * image.width * rng.uniform(0.4, 1.2) + (x, y)
            brush.polygon([tuple(p) for p in points], fill=ink)
    return image


def _photo(rng, size, rgb):
    """Soft blobs of light and colour, things out of focus, and grain."""
    cells = int(rng.integers(2, 7))
    tint = rng.uniform(4, 22)
    grid = rgb + rng.normal(0, rng.uniform(8, 32), (cells, cells, 1)) + rng.normal(0, tint, (cells, cells, 3))
    small = (max(size[0] // 3, 8), max(size[1] // 3, 8))
    image = _clutter(rng, _upscaled(grid, small)).resize(size, Image.Resampling.BILINEAR)
    if rng.random() < 0.6:
        cells = int(rng.integers(14, 60))
        fine = np.repeat(rng.normal(128, rng.uniform(3, 14), (cells, cells, 1)), 3, 2)
        image = ImageChops.add(image, _upscaled(fine, size), 1.0, -128)
    return with_noise(rng, image, rng.uniform(0, 9))


def sample(rng, size, plain=False):
    """(name, RGB picture) of a random ground."""
    name, rgb = _base(rng)
    style = "plain" if plain else STYLES[rng.choice(len(STYLES), p=SHARES)]
    if style == "photo":
        return "textured", _photo(rng, size, np.clip(rgb, 25, 230))
    image = Image.new("RGB", size, tuple(rgb.round().astype(int).tolist()))
    if style == "gradient":
        slope, tint = rng.uniform(-34, 34, (2, 2, 1)), rng.uniform(-8, 8, (2, 2, 3))
        return name, _upscaled(rgb + slope + tint, (4, 4)).resize(size, Image.Resampling.BICUBIC)
    if style == "noisy":
        if rng.random() < 0.5:
            return name, with_noise(rng, image, rng.uniform(3, 18))
        cells = int(rng.integers(8, 113))
        grain = np.repeat(rng.normal(0, rng.uniform(3, 14), (cells, cells, 1)), 3, 2)
        return name, _upscaled(rgb + grain, size)
    if style == "pattern":
        return ("textured" if name == "colored" else name), _pattern(rng, image, rgb)
    return name, image
