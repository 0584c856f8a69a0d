"""One shape: its contour, how it is turned and inked, and the pixels that it covers."""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

KINDS = ["circle", "square", "triangle", "star", "heart", "cross"]
# Degrees after which a turned shape looks the same, and into how many poses they are divided for the mask codes.
PERIOD = {"circle": 360, "square": 90, "triangle": 120, "star": 72, "heart": 360, "cross": 90}
POSES = {"circle": 1, "square": 6, "triangle": 8, "star": 6, "heart": 24, "cross": 6}
ROUND = ("circle", "heart")  # contours without corners that a thick pen would have to join
SUPERSAMPLE = 4


@dataclass
class Shape:
    kind: str
    color: str
    rgb: tuple  # the colour as drawn, near the named one
    corners: np.ndarray  # f64 [n, 2], x and y in pixels of the picture
    box: tuple  # y0, x0, y1, x1 in 0..1
    turn: float = 0.0  # degrees clockwise
    stroke: float = 0.0  # width of the pen along the contour in pixels
    edge: tuple = None  # the pen's colour, if it is not the shape's
    hollow: bool = False  # the ground shows inside
    smooth: bool = True  # antialiased
    height: int = 0  # in the stack of shapes: later ones cover earlier ones
    shade: float = 0.0  # how much darker it is at one end, in grey levels
    center: tuple = field(init=False)
    area: float = field(init=False)
    name: str = field(init=False)

    def __post_init__(self):
        y0, x0, y1, x1 = self.box
        self.center = (y0 + y1) / 2, (x0 + x1) / 2
        self.area = (y1 - y0) * (x1 - x0)
        self.name = f"{self.color} {self.kind}"

    @property
    def pose(self):
        """Which of its kind's poses the shape is nearest to."""
        count, period = POSES[self.kind], PERIOD[self.kind]
        return round(self.turn % period / period * count) % count


def _circle_points(count):
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1)


def _heart(form):
    """From a slim heart of two arcs and a point to the well-known curve of cosines."""
    t = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    curve = np.stack([x / 32, -y / 29], 1)
    # Two quarter-turned lobes on a square that stands on its tip.
    lobe = np.linspace(-0.75 * np.pi, 0.25 * np.pi, 28)
    right = np.stack([0.25 + 0.3536 * np.cos(lobe), -0.25 + 0.3536 * np.sin(lobe)], 1)
    left = np.stack([-right[::-1, 0], right[::-1, 1]], 1)
    lobes = np.concatenate([[(0, -0.5)], right, [(0, 0.5)], left]) / (1.2, 1.1)
    return curve if form < 0.65 else lobes


def contour(kind, form=0.5):
    """Corners of an upright shape about the middle of a box whose longer side is 1.

    `form` in 0..1 varies what is left open by the shape's name: how pointed a star is, how thick a cross.
    """
    if kind == "square":
        points = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    elif kind == "triangle":
        tall = 0.82 + 0.18 * form
        points = np.array([(0.5, 0), (1, tall), (0, tall)])
    elif kind == "cross":
        a = 0.38 - 0.12 * form
        b = 1 - a
        corners = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
        points = np.array(corners)
    elif kind == "circle":
        points = _circle_points(128)
    elif kind == "star":
        t = -np.pi / 2 + np.arange(10) * np.pi / 5
        r = np.where(np.arange(10) % 2 == 0, 1.0, 0.36 + 0.12 * form)
        points = np.stack([r * np.cos(t), r * np.sin(t)], 1)
    elif kind == "heart":
        points = _heart(form)
    else:
        raise ValueError(f"unknown shape {kind!r}; known are {KINDS}")
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / (high - low).max()


def turned(points, degrees):
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([(cos, sin), (-sin, cos)])


def bounds(corners, stroke):
    """x0, y0, x1, y1 of a contour with its pen, in the corners' unit."""
    return np.concatenate([corners.min(0) - stroke / 2, corners.max(0) + stroke / 2])


def _drawn(size, points, kind, pen):
    """The inside of a contour, or with a `pen` the line along it, as an L image."""
    image = Image.new("L", size)
    brush = ImageDraw.Draw(image)
    flat = [tuple(p) for p in points - 0.5]
    if not pen:
        brush.polygon(flat, fill=255)
    else:
        width = max(round(pen), 1)
        joint = None if kind in ROUND or width < 3 else "curve"
        brush.line(flat + flat[:2], fill=255, width=width, joint=joint)
    return image


class Ink:
    """The window of a picture that a shape touches: where it is, what is inside its contour, and the pen's line."""

    def __init__(self, shape):
        x0, y0, x1, y1 = bounds(shape.corners, shape.stroke)
        self.left, self.top = math.floor(x0) - 1, math.floor(y0) - 1
        size = (math.ceil(x1) + 1 - self.left, math.ceil(y1) + 1 - self.top)
        scale = SUPERSAMPLE if shape.smooth else 1
        points = (shape.corners - (self.left, self.top)) * scale
        whole = (size[0] * scale, size[1] * scale)
        self.inside = _drawn(whole, points, shape.kind, 0).reduce(scale)
        self.line = _drawn(whole, points, shape.kind, shape.stroke * scale).reduce(scale) if shape.stroke else None


def paint(canvas, shape):
    """Draws a shape onto an RGB picture."""
    ink = Ink(shape)
    at = (ink.left, ink.top)
    if not shape.hollow:
        canvas.paste(_fill(shape, ink.inside.size), at, ink.inside)
    if ink.line is not None:
        canvas.paste(tuple(round(v) for v in shape.edge or shape.rgb), at, ink.line)


def _fill(shape, size):
    rgb = np.array(shape.rgb)
    if not shape.shade:
        return Image.new("RGB", size, tuple(np.clip(rgb, 0, 255).round().astype(int).tolist()))
    ends = np.clip(np.stack([rgb + shape.shade / 2, rgb - shape.shade / 2]), 0, 255).astype(np.uint8)
    ends = ends[:, None] if shape.height % 2 else ends[None]
    return Image.fromarray(np.ascontiguousarray(ends)).resize(size, Image.Resampling.BILINEAR)


def cover(shape, picture, cells, pen=False):
    """How much of each of `cells` x `cells` cells of a picture of that size a shape, or its pen's line, covers.

    The inside counts as covered in a hollow shape, too.
    """
    scale = np.array([cells * 2 / picture[0], cells * 2 / picture[1]])
    points, side = shape.corners * scale, (cells * 2, cells * 2)
    width = shape.stroke * scale.mean()
    image = _drawn(side, points, shape.kind, max(width, 1) if pen else 0)
    if width and not pen:
        image.paste(255, (0, 0), _drawn(side, points, shape.kind, max(width, 1)))
    return np.asarray(image.reduce(2), np.float32) / 255


def mask(shape, width, height):
    """Where a shape is in its picture of that size, with what it encloses, as bool [height, width]."""
    image = _drawn((width, height), shape.corners, shape.kind, 0)
    if shape.stroke:
        image.paste(255, (0, 0), _drawn((width, height), shape.corners, shape.kind, shape.stroke))
    return np.asarray(image) > 127


def pose_mask(kind, pose, side, form=0.5):
    """The mask of a kind in a pose, stretched to its box, f32 [side, side] in 0..1."""
    points = turned(contour(kind, form), pose * PERIOD[kind] / POSES[kind])
    low, high = points.min(0), points.max(0)
    points = (points - low) / (high - low) * side * SUPERSAMPLE
    whole = (side * SUPERSAMPLE,) * 2
    return np.asarray(_drawn(whole, points, kind, 0).reduce(SUPERSAMPLE), np.float32) / 255
