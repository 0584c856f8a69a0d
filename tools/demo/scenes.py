"""Scenes of one to four coloured shapes, drawn at any size.

A scene is geometry in the unit square, so it can be drawn at the model's square input size (for training) or as a
picture of any aspect ratio (for examples and evaluation).
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

KINDS = ["circle", "square", "triangle", "star", "heart", "cross"]
COLORS = {
    "red": (215, 30, 30),
    "orange": (245, 135, 20),
    "yellow": (245, 225, 40),
    "green": (35, 160, 50),
    "cyan": (50, 205, 220),
    "blue": (35, 65, 220),
    "purple": (125, 40, 165),
    "pink": (245, 135, 190),
}
COLOR_NAMES = list(COLORS)
BACKGROUNDS = {"white": (218, 255), "gray": (115, 160), "black": (0, 42)}
BACKGROUND_NAMES = list(BACKGROUNDS)

MAX_SHAPES = 4
MIN_SIDE, MAX_SIDE = 0.17, 0.6  # of a box, as a share of the picture's height or width
GAP = 0.02  # least distance between two boxes
MIN_STEP = 0.05  # least distance between two centres from left to right, so that the order is plain

TEMPLATE_SIDES = [64, 128, 256, 512]  # of a shape's templates: the smaller, the quicker to shrink
SUPERSAMPLE = 4


@dataclass
class Shape:
    kind: str
    color: str
    rgb: tuple  # the colour as drawn, near the named one
    box: tuple  # y0, x0, y1, x1 in 0..1

    @property
    def center(self):
        y0, x0, y1, x1 = self.box
        return (y0 + y1) / 2, (x0 + x1) / 2

    @property
    def area(self):
        y0, x0, y1, x1 = self.box
        return (y1 - y0) * (x1 - x0)

    @property
    def name(self):
        return f"{self.color} {self.kind}"


@dataclass
class Background:
    name: str
    rgb: tuple
    style: str  # plain, gradient or noisy
    slope: tuple = (0.0, 0.0)  # grey levels from top to bottom, and from left to right
    noise: float = 0.0  # standard deviation in grey levels
    grid: int = 0  # cells per side of the noise
    seed: int = 0


@dataclass
class Scene:
    aspect: float  # width / height of the picture before it is squashed
    background: Background
    shapes: list = field(default_factory=list)  # from left to right


def _polygon(kind):
    """Corners of a shape in the unit square, which the shape touches on all four sides."""
    if kind == "square":
        points = [(0, 0), (1, 0), (1, 1), (0, 1)]
    elif kind == "triangle":
        points = [(0.5, 0), (1, 1), (0, 1)]
    elif kind == "cross":
        a, b = 0.32, 0.68
        points = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    elif kind == "circle":
        t = np.linspace(0, 2 * np.pi, 128, endpoint=False)
        points = np.stack([np.cos(t), np.sin(t)], 1)
    elif kind == "star":
        t = -np.pi / 2 + np.arange(10) * np.pi / 5
        r = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        points = np.stack([r * np.cos(t), r * np.sin(t)], 1)
    elif kind == "heart":
        t = np.linspace(0, 2 * np.pi, 128, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        points = np.stack([x, -y], 1)
    else:
        raise ValueError(f"unknown shape {kind!r}; known are {KINDS}")
    points = np.asarray(points, np.float64)
    low, high = points.min(0), points.max(0)
    return (points - low) / (high - low)


@cache
def template(kind, side):
    """The shape in white on black, antialiased, `side` pixels high and wide within an empty border.

    The border, a quarter of `side` wide, lets a shape start within a pixel.
    """
    whole = (side + side // 2) * SUPERSAMPLE
    image = Image.new("L", (whole, whole))
    points = (_polygon(kind) + 0.25) * side * SUPERSAMPLE
    ImageDraw.Draw(image).polygon([tuple(p) for p in points], fill=255)
    return image.resize((whole // SUPERSAMPLE,) * 2, Image.Resampling.BOX)


def _background(rng):
    name = BACKGROUND_NAMES[rng.integers(len(BACKGROUND_NAMES))]
    low, high = BACKGROUNDS[name]
    level = rng.uniform(low, high)
    rgb = tuple(np.clip(level + rng.uniform(-8, 8, 3), 0, 255))
    style = ("plain", "gradient", "noisy")[rng.choice(3, p=[0.5, 0.25, 0.25])]
    slope = tuple(rng.uniform(-30, 30, 2)) if style == "gradient" else (0.0, 0.0)
    noise = rng.uniform(3, 14) if style == "noisy" else 0.0
    return Background(name, rgb, style, slope, noise, int(rng.integers(8, 113)), int(rng.integers(2**31)))


def _place(rng, aspect, taken):
    """A free box, or None if some tries find none."""
    for _ in range(30):
        size = rng.uniform(0.2, 0.46)
        height, width = np.clip([size * aspect**0.5, size / aspect**0.5], MIN_SIDE, MAX_SIDE)
        y0, x0 = rng.uniform(0.01, 0.99 - height), rng.uniform(0.01, 0.99 - width)
        y1, x1 = y0 + height, x0 + width
        free = all(
            (y1 + GAP < b[0] or b[2] + GAP < y0 or x1 + GAP < b[1] or b[3] + GAP < x0)
            and abs(x0 + x1 - b[1] - b[3]) > 2 * MIN_STEP
            for b in taken
        )
        if free:
            return float(y0), float(x0), float(y1), float(x1)
    return None


def _rgb(rng, color):
    base = np.array(COLORS[color]) * rng.uniform(0.88, 1.08) + rng.uniform(-16, 16, 3)
    return tuple(float(v) for v in np.clip(base, 0, 255))


def sample(rng, count=None, aspect=None):
    """A random scene. `rng` is a numpy Generator; the same state gives the same scene."""
    if count is None:
        count = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.25, 0.25, 0.3]))
    if aspect is None:
        aspect = float(np.exp(rng.uniform(-0.5, 0.5)))
    scene = Scene(aspect, _background(rng))
    boxes = []
    for _ in range(count):
        box = _place(rng, aspect, boxes)
        if box is not None:
            boxes.append(box)
    # Now and then a scene repeats a colour or a kind, or counting would only ever meet one of each.
    kinds = rng.integers(len(KINDS), size=2 if rng.random() < 0.35 else MAX_SHAPES)
    colors = rng.integers(len(COLOR_NAMES), size=2 if rng.random() < 0.3 else MAX_SHAPES)
    for box in boxes:
        kind, color = KINDS[rng.choice(kinds)], COLOR_NAMES[rng.choice(colors)]
        scene.shapes.append(Shape(kind, color, _rgb(rng, color), box))
    scene.shapes.sort(key=lambda s: s.center[1])
    return scene


def numbered(stream, index):
    """The `index`-th scene of a stream; streams (see data.py) never share a scene."""
    return sample(np.random.default_rng([stream, index]))


def _canvas(background, width, height):
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = background.rgb
    down, right = background.slope
    if down or right:
        ramp = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * down
        canvas += (ramp + np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * right)[..., None]
    if background.noise:
        rng = np.random.default_rng(background.seed)
        cells = rng.standard_normal((background.grid, background.grid), np.float32) * background.noise
        noise = Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR)
        canvas += np.asarray(noise)[..., None]
    return canvas


def coverage(shape, width, height, resample=Image.Resampling.BICUBIC):
    """The pixels that a shape may touch as (top, left, share of each that it covers in 0..1)."""
    y0, x0, y1, x1 = (v * s for v, s in zip(shape.box, (height, width, height, width)))
    top, left = int(np.floor(y0)), int(np.floor(x0))
    bottom, right = int(np.ceil(y1)), int(np.ceil(x1))
    drawn = max(y1 - y0, x1 - x0)
    side = next((side for side in TEMPLATE_SIDES if side >= 1.5 * drawn), TEMPLATE_SIDES[-1])
    scale_y, scale_x, border = side / (y1 - y0), side / (x1 - x0), side / 4
    source = (
        (left - x0) * scale_x + border,
        (top - y0) * scale_y + border,
        (right - x0) * scale_x + border,
        (bottom - y0) * scale_y + border,
    )
    part = template(shape.kind, side).resize((right - left, bottom - top), resample, box=source)
    return top, left, np.asarray(part, np.float32) / 255


def draw(scene, width, height):
    """The scene as uint8 RGB [height, width, 3]."""
    canvas = _canvas(scene.background, width, height)
    for shape in scene.shapes:
        top, left, alpha = coverage(shape, width, height)
        window = canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        alpha = alpha[: window.shape[0], : window.shape[1], None]
        window += alpha * (np.array(shape.rgb, np.float32) - window)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def picture(scene, pixels=160_000):
    """The scene as a PIL picture with its aspect ratio and about `pixels` pixels."""
    width = round((pixels * scene.aspect) ** 0.5)
    return Image.fromarray(draw(scene, width, round(width / scene.aspect)))


def mask(scene, shape, width, height):
    """Where `shape` is, as bool [height, width]."""
    full = np.zeros((height, width), bool)
    top, left, alpha = coverage(shape, width, height)
    window = full[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    window |= alpha[: window.shape[0], : window.shape[1]] > 0.5
    return full
