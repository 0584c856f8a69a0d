"""One shape: its outline, how it is drawn, and which pixels it takes."""

import math
from dataclasses import dataclass, field

import numpy as np
import skia

KINDS = ["circle", "square", "triangle", "star", "heart", "cross"]


@dataclass
class Shape:
    kind: str
    across: float  # width before it is turned, in pixels
    angle: float = 0.0  # degrees
    style: str = "solid"  # or hollow, or outlined: with an edge in another colour
    stroke: float = 0.0  # width of that edge, in pixels; it lies half inside and half outside
    ratio: float = 0.5  # 0 to 1: slim to stout, for kinds that can be either
    center: tuple = (0.0, 0.0)
    color: str = ""  # its name; empty in a grey picture
    rgb: np.ndarray | None = None
    edge_rgb: np.ndarray | None = None
    # Known when the scene is complete. Masks are bool [height, width] of the picture.
    visible: np.ndarray | None = field(
        default=None, repr=False
    )  # what no other shape hides, with a hollow one's inside
    ink: np.ndarray | None = field(default=None, repr=False)  # the same without that inside
    box: tuple = ()  # x0, y0, x1, y1 of what is visible, from 0 to 1

    @property
    def name(self):
        return f"{self.color} {self.kind}".strip()

    def path(self):
        outline = _OUTLINES[self.kind](self.ratio)
        matrix = skia.Matrix()
        matrix.setTranslate(*self.center)
        matrix.preRotate(self.angle)
        matrix.preScale(self.across / 2, self.across / 2)
        outline.transform(matrix)
        return outline

    def bounds(self):
        """x0, y0, x1, y1 of what is drawn, in pixels."""
        box = self.path().computeTightBounds().makeOutset(self.stroke / 2, self.stroke / 2)
        return box.left(), box.top(), box.right(), box.bottom()

    def draw(self, canvas, smooth):
        path = self.path()
        if self.style != "hollow":
            canvas.drawPath(path, _paint(self.rgb, smooth))
        if self.style != "solid":
            edge = self.rgb if self.style == "hollow" else self.edge_rgb
            canvas.drawPath(path, _paint(edge, smooth, self.stroke))

    def silhouette(self, width, height):
        """bool [height, width]: everything inside its outer edge."""
        return _covered(self.path(), skia.Paint.kStrokeAndFill_Style, self.stroke, width, height)

    def line(self, width, height):
        """bool [height, width]: the edge alone."""
        return _covered(self.path(), skia.Paint.kStroke_Style, self.stroke, width, height)


def _paint(color, smooth, stroke=0.0):
    r, g, b = (int(v) for v in color)
    paint = skia.Paint(Color=skia.Color(r, g, b), AntiAlias=smooth)
    if stroke:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(stroke)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def _covered(path, style, stroke, width, height):
    surface = skia.Surface(width, height)
    paint = skia.Paint(Color=skia.ColorWHITE, AntiAlias=False, Style=style if stroke else skia.Paint.kFill_Style)
    paint.setStrokeWidth(stroke)
    paint.setStrokeJoin(skia.Paint.kRound_Join)
    surface.getCanvas().clear(skia.ColorBLACK)
    surface.getCanvas().drawPath(path, paint)
    return surface.toarray()[..., 1] > 127


def _polygon(points):
    path = skia.Path()
    path.addPoly([skia.Point(float(x), float(y)) for x, y in points], True)
    return path


def _circle(_):
    return skia.Path().addCircle(0, 0, 1)


def _square(_):
    return skia.Path().addRect(skia.Rect.MakeLTRB(-1, -1, 1, 1))


def _triangle(ratio):
    half = 0.8 + 0.25 * ratio
    return _polygon([(0, -half), (1, half), (-1, half)])


def _star(ratio):
    inner = 0.38 + 0.14 * ratio
    turns = [math.pi * i / 5 for i in range(10)]
    return _polygon([(math.sin(t) * r, -math.cos(t) * r) for t, r in zip(turns, [1, inner] * 5)])


def _heart(ratio):
    tip, dent = 0.85 + 0.15 * ratio, -0.5 + 0.1 * ratio
    path = skia.Path()
    path.moveTo(0, tip)
    path.cubicTo(-0.45, 0.5, -1.0, 0.2, -1.0, -0.35)
    path.cubicTo(-1.0, -0.75, -0.75, -0.95, -0.5, -0.95)
    path.cubicTo(-0.25, -0.95, -0.08, -0.8, 0, dent)
    path.cubicTo(0.08, -0.8, 0.25, -0.95, 0.5, -0.95)
    path.cubicTo(0.75, -0.95, 1.0, -0.75, 1.0, -0.35)
    path.cubicTo(1.0, 0.2, 0.45, 0.5, 0, tip)
    path.close()
    return path


def _cross(ratio):
    a = 0.27 + 0.13 * ratio
    corner = [
        (-a, -1),
        (a, -1),
        (a, -a),
        (1, -a),
        (1, a),
        (a, a),
        (a, 1),
        (-a, 1),
        (-a, a),
        (-1, a),
        (-1, -a),
        (-a, -a),
    ]
    return _polygon(corner)


_OUTLINES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
}
