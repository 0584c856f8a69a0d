"""A scene: a ground, shapes that a person could name, perhaps text; and its picture."""

import io
from dataclasses import dataclass

import numpy as np
import skia
from PIL import Image

import grounds
import lettering
from palette import SHADES, difference, rgb, stands_out
from shapes import KINDS, Shape

RATIOS = [1, 1, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2]
TRIES = 60


@dataclass(frozen=True)
class Look:
    """What a category draws. The defaults are the plainest scenes; a category changes one of them."""

    count: tuple = (1, 4)
    across: tuple = (0.2, 0.38)  # of the short side
    turned: bool = False
    style: str = "solid"
    shades: str = "vivid"
    ground: str = "pale"
    smooth: bool = True
    overlap: bool = False
    distinct: bool = False  # no name twice
    gap: float = 0.03  # between shapes, of the short side
    beside: tuple = (0, 0)  # words beside the shapes
    lines: tuple = (0, 0)  # lines of text alone
    writes: str = "words"


@dataclass
class Scene:
    look: Look
    image: Image.Image
    shapes: list[Shape]  # the lowest first
    texts: list[lettering.Text]

    @property
    def words(self):
        return [word for text in self.texts for word in text.words.split()]


def make(look, rng):
    """A complete scene."""
    while True:
        width, height = _size(look, rng)
        ground = getattr(grounds, look.ground)(rng, width, height)
        shapes = _place(look, rng, ground)
        texts = None if shapes is None else _write(look, rng, ground, shapes)
        if texts is not None and _see(look, shapes, width, height):
            break
    image = _picture(look, rng, ground, shapes, texts)
    if not look.smooth and rng.random() < 0.5:
        # Hard pixels are mostly seen enlarged.
        image = _doubled(image)
        for shape in shapes:
            shape.visible, shape.ink = _doubled(shape.visible), _doubled(shape.ink)
    return Scene(look, Image.fromarray(image), shapes, texts)


def _doubled(pixels):
    return pixels.repeat(2, 0).repeat(2, 1)


def _size(look, rng):
    ratio = RATIOS[rng.integers(len(RATIOS))]
    area = rng.uniform(50_000, 200_000) if look.smooth else rng.uniform(20_000, 60_000)
    width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
    return (width, height) if rng.random() < 0.6 else (height, width)


def _place(look, rng, ground):
    """The shapes, or None if there is no room for them."""
    shapes = []
    for _ in range(rng.integers(look.count[0], look.count[1] + 1)):
        for _ in range(TRIES):
            shape = _shape(look, rng, ground, shapes)
            if shape is not None:
                shapes.append(shape)
                break
        else:
            return None
    return shapes


def _shape(look, rng, ground, others):
    """One more shape, or None if where it fell it doesn't fit."""
    height, width, _ = ground.shape
    short = min(width, height)
    across = rng.uniform(*look.across) * short
    # A circle can't be seen to be turned.
    kinds = [k for k in KINDS if not (look.turned and k == "circle")]
    shape = Shape(
        _again(rng, [o.kind for o in others]) or str(rng.choice(kinds)),
        across,
        angle=rng.uniform(0, 360) if look.turned else 0.0,
        style=look.style,
        stroke=0.0 if look.style == "solid" else rng.uniform(*_STROKE[look.style]) * across,
        ratio=rng.random(),
    )
    beneath = others[0] if look.overlap and len(others) == 1 else None
    if beneath is None:
        shape.center = (rng.uniform(0, width), rng.uniform(0, height))
    else:
        way, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.7) * (across + beneath.across)
        shape.center = (beneath.center[0] + far * np.cos(way), beneath.center[1] + far * np.sin(way))
    margin = 0.02 * short
    x0, y0, x1, y1 = shape.bounds()
    if x0 < margin or y0 < margin or x1 > width - margin or y1 > height - margin:
        return None
    if any(_touch(shape.bounds(), o.bounds(), look.gap * short) for o in others if o is not beneath):
        return None
    return shape if _colour(look, rng, shape, ground, others, beneath) else None


_STROKE = {"hollow": (0.09, 0.16), "outlined": (0.04, 0.08)}
_EDGES = ["#000000", "#2b2b2b", "#4a4a4a"]


def _again(rng, earlier):
    """Now and then something that the scene has already, so that there is something to count."""
    return earlier[rng.integers(len(earlier))] if earlier and rng.random() < 0.25 else None


def _colour(look, rng, shape, ground, others, beneath):
    """Gives it a colour that stands out from the ground, and from a shape that it overlaps; False if none does."""
    shades = SHADES[look.shades]
    around = _pixels(ground, shape.bounds())
    wanted = _again(rng, [o.color for o in others])
    names = ([] if wanted is None else [wanted]) + list(rng.permutation(list(shades)))
    for name in names:
        if look.distinct and f"{name} {shape.kind}" in {o.name for o in others}:
            continue
        color = rgb(rng.choice(shades[name]))
        if not stands_out(color, around) or (beneath is not None and difference(color, beneath.rgb) < 40):
            continue
        shape.color, shape.rgb, shape.edge_rgb = str(name), color, rgb(rng.choice(_EDGES))
        return True
    return False


def _pixels(ground, bounds):
    """[n, 3]: about 400 pixels of the ground there."""
    x0, y0, x1, y1 = (max(int(v), 0) for v in bounds)
    part = ground[y0 : y1 + 1, x0 : x1 + 1].reshape(-1, 3)
    return part[:: max(1, len(part) // 400)]


def _touch(a, b, gap):
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _write(look, rng, ground, shapes):
    """The texts, or None if there is no room for them."""
    height, width, _ = ground.shape
    texts = []
    for _ in range(rng.integers(look.beside[0], look.beside[1] + 1)):
        for _ in range(TRIES):
            text = _text(rng, width, height, lettering.word(rng), rng.uniform(0.15, 0.2))
            text.x, text.y = rng.uniform(0, width), rng.uniform(0, height)
            taken = [s.bounds() for s in shapes] + [t.bounds() for t in texts]
            if lettering.fits(text, width, height) and not any(
                _touch(text.bounds(), other, 0.03 * min(width, height)) for other in taken
            ):
                break
        else:
            return None
        texts.append(text)
    texts += _lines(look, rng, width, height)
    for text in texts:
        if not lettering.fits(text, width, height):
            return None
        text.rgb = lettering.ink(rng, _pixels(ground, text.bounds()))
        if text.rgb is None:
            return None
    return texts


def _lines(look, rng, width, height):
    """Lines below each other, in one font, as on a sign."""
    count = rng.integers(look.lines[0], look.lines[1] + 1)
    made = lettering.word if look.writes == "words" else lettering.number
    size, font = rng.uniform(0.16, 0.34), rng.choice(lettering.FONTS)
    left, top = rng.uniform(0.04, 0.2) * width, rng.uniform(0.04, 0.3) * height
    centered = rng.random() < 0.5
    texts = []
    for index in range(count):
        words = [made(rng) for _ in range(rng.choice([1, 1, 2]))]
        text = _text(rng, width, height, " ".join(words), size)
        text.font = str(font)
        x0, _, x1, _ = text.bounds()
        text.x = (width - (x1 - x0)) / 2 if centered else left
        text.y = top + text.em * (1 + 1.3 * index)
        texts.append(text)
    return texts


def _text(rng, width, height, words, size):
    return lettering.Text(words, 0.0, 0.0, size * min(width, height), str(rng.choice(lettering.FONTS)), np.zeros(3))


def _see(look, shapes, width, height):
    """Notes which pixels and which box each shape takes; False if an overlap is not a little one."""
    for shape in shapes:
        shape.visible = shape.silhouette(width, height)
        shape.ink = shape.line(width, height) if shape.style == "hollow" else shape.visible
    for index, lower in enumerate(shapes):
        whole = lower.visible
        for upper in shapes[index + 1 :]:
            lower.visible, lower.ink = lower.visible & ~upper.visible, lower.ink & ~upper.visible
        hidden = 1 - lower.visible.sum() / whole.sum()
        lower.box = box_of(lower.visible)
        if look.overlap and index == 0 and len(shapes) > 1:
            # A box should be the same to those who draw it round all of a shape and round what is seen of it.
            if not 0.03 <= hidden <= 0.15 or max(abs(a - b) for a, b in zip(lower.box, box_of(whole))) > 0.01:
                return False
    return True


def box_of(mask):
    """x0, y0, x1, y1 of the pixels that are set, from 0 to 1."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return xs[0] / width, ys[0] / height, (xs[-1] + 1) / width, (ys[-1] + 1) / height


def _picture(look, rng, ground, shapes, texts):
    """u8 [height, width, 3]"""
    height, width, _ = ground.shape
    rgba = np.dstack([ground.round().astype(np.uint8), np.full((height, width), 255, np.uint8)])
    surface = skia.Surface(width, height)
    canvas = surface.getCanvas()
    canvas.drawImage(skia.Image.fromarray(rgba, colorType=skia.kRGBA_8888_ColorType), 0, 0)
    for thing in shapes + texts:
        thing.draw(canvas, look.smooth)
    image = surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3]
    if look.ground == "noisy" and rng.random() < 0.5:
        image = np.clip(image + rng.normal(0, rng.uniform(5, 14), image.shape), 0, 255).astype(np.uint8)
    if look.ground == "photo":
        image = _as_jpeg(image, int(rng.integers(60, 92)))
    return np.ascontiguousarray(image)


def _as_jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
