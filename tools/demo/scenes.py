"""Scenes of up to six coloured shapes and words, drawn at the size of a small picture.

`sample` makes the geometry and the ground, `draw` the picture, and `seen` what the model sees of it.
"""

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

import grounds
import shapes
import texts
from shapes import KINDS, Shape

COLORS = {
    "red": (215, 30, 30),
    "orange": (245, 135, 20),
    "yellow": (245, 225, 40),
    "green": (35, 160, 50),
    "cyan": (50, 205, 220),
    "blue": (35, 65, 220),
    "purple": (125, 40, 165),
    "pink": (245, 135, 190),
    "gray": (128, 128, 128),
    "black": (18, 18, 18),
    "white": (245, 245, 245),
}
COLOR_NAMES = list(COLORS)
COLOR_SHARES = np.array([0.107] * 8 + [0.07, 0.037, 0.037])
COLOR_SHARES /= COLOR_SHARES.sum()
HUES = 8  # the first of them; the others are tones of grey
BACKGROUND_NAMES = grounds.NAMES

MAX_SHAPES = 6
COUNT_SHARES = [0.2, 0.2, 0.19, 0.16, 0.13, 0.12]
SMALLEST, LARGEST = 0.1, 0.55  # across, as a share of the picture's short side
GAP = 0.012  # between boxes of shapes that don't overlap
OVERLAP = 0.16  # the most that a box may share with another one, of the smaller's area
MIN_STEP = 0.03  # between centres from left to right, so that the order is plain
CONTRAST = 58  # least distance of a shape's colour from its ground, in RGB
TEXT_ONLY, EASY = 0.16, 0.25  # shares of scenes of words alone, and of upright, filled shapes


@dataclass
class Scene:
    ground: Image.Image
    background: str  # its name
    shapes: list = field(default_factory=list)  # from left to right
    texts: list = field(default_factory=list)  # in reading order
    grain: float = 0.0  # noise over all, in grey levels
    quality: int = 0  # of JPEG; 0 is none
    seed: int = 0

    @property
    def size(self):
        return self.ground.size


def _tone(rng, color, easy):
    """The named colour: vivid, pastel, dark or pale."""
    base = np.array(COLORS[color], np.float64)
    style = 0.0 if easy or COLOR_NAMES.index(color) >= HUES else rng.random()
    if color == "gray":
        base = np.full(3, rng.uniform(85, 180))
    if color in ("gray", "black", "white"):
        base += rng.uniform(-6, 6, 3)
    elif style < 0.52:
        base = base * rng.uniform(0.88, 1.08) + rng.uniform(-16, 16, 3)
    elif style < 0.7:
        base += (255 - base) * rng.uniform(0.3, 0.62) + rng.uniform(-6, 6, 3)
    elif style < 0.87:
        base = base * rng.uniform(0.42, 0.8) + rng.uniform(-6, 6, 3)
    else:
        base += (base.mean() - base) * rng.uniform(0.15, 0.5) + rng.uniform(-8, 8, 3)
    return np.clip(base, 0, 255)


def _colored(rng, color, behind, easy):
    """A colour's name and a tone of it that stands out from what is behind; another name if none does."""
    for attempt in range(24):
        if attempt % 8 == 7:
            color = COLOR_NAMES[rng.choice(len(COLOR_NAMES), p=COLOR_SHARES)]
        rgb = _tone(rng, color, easy)
        if np.linalg.norm(rgb - behind) > CONTRAST:
            break
    return color, tuple(rgb.tolist())


def _free(x0, y0, x1, y1, taken, size, overlapping):
    """Whether a box may stand there."""
    for b in taken:
        if abs(x0 + x1 - b[0] - b[2]) < 2 * MIN_STEP * size[0]:
            return False
        gap = 0 if overlapping else GAP * min(size)
        across, down = min(x1, b[2]) - max(x0, b[0]) + gap, min(y1, b[3]) - max(y0, b[1]) + gap
        if across > 0 and down > 0:
            smaller = min((x1 - x0) * (y1 - y0), (b[2] - b[0]) * (b[3] - b[1]))
            if not overlapping or across * down > OVERLAP * smaller:
                return False
    return True


def _pen(rng, across, size, seen):
    """Stroke in pixels and whether the shape is hollow."""
    thinnest = 1.4 * max(size) / seen  # of what the model can see
    style = rng.random()
    if style < 0.6:
        return 0.0, False
    if style < 0.8:
        return max(across * rng.uniform(0.05, 0.17), thinnest), True
    return max(across * rng.uniform(0.02, 0.09), thinnest / 2), False


def _place(rng, size, kind, seen, taken, easy, overlapping, most):
    """Corners and the rest of a shape in a free place, or None."""
    short = min(size)
    for _ in range(25):
        if easy:
            across = rng.uniform(0.2, 0.46) * (size[0] * size[1]) ** 0.5
            turn, stroke, hollow = 0.0, 0.0, False
        else:
            across = short * np.exp(rng.uniform(np.log(SMALLEST), np.log(most)))
            turn = 0.0 if rng.random() < 0.3 else rng.uniform(0, 360)
            stroke, hollow = _pen(rng, across, size, seen)
        points = shapes.turned(shapes.contour(kind, rng.random()), turn) * across
        x0, y0, x1, y1 = shapes.bounds(points, stroke)
        room = (size[0] - (x1 - x0) - 2, size[1] - (y1 - y0) - 2)
        if min(room) <= 0:
            continue
        dx, dy = 1 + rng.uniform(0, room[0]) - x0, 1 + rng.uniform(0, room[1]) - y0
        x0, y0, x1, y1 = x0 + dx, y0 + dy, x1 + dx, y1 + dy
        if _free(x0, y0, x1, y1, taken, size, overlapping):
            taken.append((x0, y0, x1, y1))
            box = (y0 / size[1], x0 / size[0], y1 / size[1], x1 / size[0])
            return dict(corners=points + (dx, dy), box=box, turn=turn, stroke=stroke, hollow=hollow)
    return None


def _behind(ground, box):
    """The mean colour of a ground under a box of pixels."""
    x0, y0, x1, y1 = (int(v) for v in box)
    window = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
    return np.array(ground.resize((1, 1), Image.Resampling.BOX, box=window).getpixel((0, 0)))


def _edge(rng, rgb, behind):
    """A pen for a filled shape: black, white, or a darker or lighter tone."""
    style = rng.random()
    if style < 0.4:
        edge = np.full(3, rng.uniform(0, 40))
    elif style < 0.6:
        edge = np.full(3, rng.uniform(215, 255))
    else:
        edge = np.array(rgb) * rng.uniform(0.3, 0.65)
    return tuple(edge.tolist()) if np.linalg.norm(edge - behind) > CONTRAST / 2 else tuple((255 - edge).tolist())


def _with_shapes(rng, scene, count, easy, seen):
    size, taken = scene.size, []
    overlapping, smooth = not easy and rng.random() < 0.35, easy or rng.random() < 0.75
    most = min(LARGEST, 1.15 / count**0.5)
    # Now and then a scene repeats a colour or a kind, or counting would only ever meet one of each.
    kinds = rng.integers(len(KINDS), size=2 if rng.random() < 0.35 else MAX_SHAPES)
    colors = rng.choice(len(COLOR_NAMES), p=COLOR_SHARES, size=2 if rng.random() < 0.3 else MAX_SHAPES)
    for i in range(count):
        kind, color = KINDS[rng.choice(kinds)], COLOR_NAMES[rng.choice(colors)]
        placed = _place(rng, size, kind, seen, taken, easy, overlapping, most)
        if placed is None:
            continue
        behind = _behind(scene.ground, taken[-1])
        color, rgb = _colored(rng, color, behind, easy)
        edge = _edge(rng, rgb, behind) if placed["stroke"] and not placed["hollow"] else None
        shade = rng.uniform(10, 60) if not easy and rng.random() < 0.15 else 0.0
        scene.shapes.append(Shape(kind, color, rgb, edge=edge, smooth=smooth, height=i, shade=shade, **placed))
    scene.shapes.sort(key=lambda s: s.center[1])
    if not easy and rng.random() < 0.25:
        ground = _behind(scene.ground, (0, 0, *size))
        for _ in range(rng.integers(1, 3)):
            boxes = taken + [text.box for text in scene.texts]
            text = texts.beside(rng, size, boxes, ground, seen)
            if text is not None:
                scene.texts.append(text)
        scene.texts.sort(key=lambda text: text.at[1])


def sample(rng, seen=192, count=None):
    """A random scene. `rng` is a numpy Generator; the same state gives the same scene."""
    style = rng.random()
    easy = count is None and style < EASY
    aspect = np.exp(rng.uniform(-0.5, 0.5))
    side = np.exp(rng.uniform(np.log(0.7), np.log(1.75))) * seen
    size = (max(round(side * aspect**0.5), 32), max(round(side / aspect**0.5), 32))
    background, ground = grounds.sample(rng, size)
    scene = Scene(ground, background, seed=int(rng.integers(2**31)))
    if count is None and style > 1 - TEXT_ONLY:
        scene.texts = texts.page(rng, size, _behind(ground, (0, 0, *size)), seen)
    else:
        count = count or int(rng.choice(np.arange(1, 7), p=COUNT_SHARES))
        _with_shapes(rng, scene, min(count, 4) if easy else count, easy, seen)
    if not easy:
        scene.grain = rng.uniform(2, 9) if rng.random() < 0.15 else 0.0
        scene.quality = int(rng.integers(45, 92)) if rng.random() < 0.12 else 0
    return scene


def numbered(stream, index, seen=192):
    """The `index`-th scene of a stream; streams (see data.py) never share a scene."""
    return sample(np.random.default_rng([stream, index]), seen)


def draw(scene):
    """The scene as an RGB picture."""
    canvas = scene.ground.copy()
    for shape in sorted(scene.shapes, key=lambda s: s.height):
        shapes.paint(canvas, shape)
    for text in scene.texts:
        text.draw(canvas)
    if scene.grain:
        canvas = grounds.with_noise(np.random.default_rng(scene.seed), canvas, scene.grain)
    if scene.quality:
        file = io.BytesIO()
        canvas.save(file, "JPEG", quality=scene.quality)
        canvas = Image.open(file).convert("RGB")
    return canvas


def seen(scene, side):
    """What the model sees of it, uint8 [side, side, 3]: squashed to a square as the server does it."""
    return np.asarray(draw(scene).resize((side, side), Image.Resampling.BICUBIC))
