"""Draws examples/images: a dozen scenes in the sizes, modes and formats that people send.

    python examples.py --out ../../examples/images

`scenes.json` beside them lists the contents of each: names, and boxes in pixels of the upright picture.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scenes import COLORS
from shapes import contour

WHITE, GRAY, BLACK = (250, 250, 248), (140, 142, 138), (22, 20, 24)
EXIF_ORIENTATION = 0x0112
TURNED = 6  # the viewer turns the stored picture by 90 degrees clockwise

NOISE_CELLS, NOISE_SEED = 90, 5
FORM = 0.5  # of stars and crosses
TEMPLATE_SIDES = [64, 128, 256, 512]  # of a shape's templates, of which the smallest that suffices is shrunk
SUPERSAMPLE = 4

# Each shape is (name, centre x, centre y, size), the size as a share of the square root of the picture's area.
EXAMPLES = {
    "red-circle.png": dict(size=(320, 320), on=WHITE, shapes=[("red circle", 0.5, 0.47, 0.4)]),
    "circle-and-square.jpg": dict(
        size=(480, 360), on=WHITE, shapes=[("red circle", 0.28, 0.55, 0.36), ("blue square", 0.72, 0.42, 0.34)]
    ),
    "three-hearts.png": dict(
        size=(400, 400),
        on=BLACK,
        shapes=[("pink heart", 0.2, 0.3, 0.28), ("red heart", 0.5, 0.7, 0.36), ("pink heart", 0.8, 0.28, 0.28)],
    ),
    "four-shapes.png": dict(
        size=(640, 480),
        on=GRAY,
        shapes=[
            ("yellow star", 0.2, 0.28, 0.32),
            ("green triangle", 0.36, 0.75, 0.32),
            ("purple cross", 0.64, 0.27, 0.28),
            ("orange circle", 0.8, 0.72, 0.34),
        ],
    ),
    "wide.png": dict(
        size=(704, 431), on=WHITE, shapes=[("cyan star", 0.2, 0.5, 0.36), ("orange cross", 0.75, 0.5, 0.34)]
    ),
    "tall.webp": dict(
        size=(301, 487), on=BLACK, shapes=[("yellow circle", 0.38, 0.25, 0.34), ("blue heart", 0.62, 0.73, 0.36)]
    ),
    "noisy.png": dict(
        size=(224, 196),
        on=GRAY,
        noise=9.0,
        shapes=[("green square", 0.3, 0.34, 0.34), ("red triangle", 0.7, 0.66, 0.36)],
    ),
    "gradient.jpg": dict(
        size=(500, 333),
        on=(228, 230, 226),
        slope=(24.0, -18.0),
        shapes=[("purple star", 0.3, 0.6, 0.38), ("pink circle", 0.7, 0.35, 0.3)],
    ),
    "small.gif": dict(size=(97, 61), on=WHITE, shapes=[("blue triangle", 0.4, 0.5, 0.42)]),
    "exif-rotated.jpg": dict(
        size=(360, 480), on=WHITE, shapes=[("green heart", 0.3, 0.3, 0.34), ("orange square", 0.68, 0.72, 0.32)]
    ),
    "transparent.png": dict(
        size=(360, 360), on=None, shapes=[("purple triangle", 0.3, 0.35, 0.36), ("red cross", 0.7, 0.65, 0.34)]
    ),
    "grey.png": dict(
        size=(330, 250), on=WHITE, grey=True, shapes=[("blue star", 0.28, 0.5, 0.4), ("purple circle", 0.75, 0.5, 0.36)]
    ),
}


def stretched(kind):
    """Corners of an upright shape in the unit square, which it touches on all four sides."""
    points = contour(kind, FORM)
    low, high = points.min(0), points.max(0)
    return (points - low) / (high - low)


@cache
def template(kind, side):
    """The shape in white on black, antialiased, `side` pixels high and wide within an empty border.

    The border, a quarter of `side` wide, lets a shape start within a pixel.
    """
    whole = (side + side // 2) * SUPERSAMPLE
    image = Image.new("L", (whole, whole))
    points = (stretched(kind) + 0.25) * side * SUPERSAMPLE
    ImageDraw.Draw(image).polygon([tuple(p) for p in points], fill=255)
    return image.resize((whole // SUPERSAMPLE,) * 2, Image.Resampling.BOX)


def coverage(kind, box, width, height):
    """The pixels that a shape may touch as (top, left, share of each that it covers in 0..1)."""
    y0, x0, y1, x1 = (v * s for v, s in zip(box, (height, width, height, width)))
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
    part = template(kind, side).resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=source)
    return top, left, np.asarray(part, np.float32) / 255


def canvas(on, width, height, noise=0.0, slope=(0.0, 0.0), **_):
    ground = np.empty((height, width, 3), np.float32)
    ground[:] = on or WHITE
    down, right = slope
    if down or right:
        ramp = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * down
        ground += (ramp + np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * right)[..., None]
    if noise:
        rng = np.random.default_rng(NOISE_SEED)
        cells = rng.standard_normal((NOISE_CELLS, NOISE_CELLS), np.float32) * noise
        grain = Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR)
        ground += np.asarray(grain)[..., None]
    return ground


def placed(size, shapes, **_):
    """(name, box as y0, x0, y1, x1 in 0..1) of each shape, from left to right."""
    width, height = size
    for name, x, y, share in shapes:
        side = share * (width * height) ** 0.5
        half_y, half_x = side / height / 2, side / width / 2
        yield name, (y - half_y, x - half_x, y + half_y, x + half_x)


def picture(spec):
    """The picture as displayed."""
    width, height = spec["size"]
    drawn = canvas(width=width, height=height, **spec)
    opaque = np.zeros((height, width), np.float32)
    for name, box in placed(**spec):
        color, kind = name.split()
        top, left, share = coverage(kind, box, width, height)
        bottom, right = top + share.shape[0], left + share.shape[1]
        drawn[top:bottom, left:right] += share[..., None] * (
            np.array(COLORS[color], np.float32) - drawn[top:bottom, left:right]
        )
        np.maximum(opaque[top:bottom, left:right], share, out=opaque[top:bottom, left:right])
    image = Image.fromarray(np.clip(drawn + 0.5, 0, 255).astype(np.uint8))
    if spec.get("grey"):
        return image.convert("L")
    if spec["on"] is None:
        image.putalpha(Image.fromarray((opaque * 255).round().astype(np.uint8)))
    return image


def save(image, path):
    exif = Image.Exif()
    if path.name.startswith("exif"):
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[EXIF_ORIENTATION] = TURNED
    if path.suffix == ".gif":
        image = image.quantize(32)
    options = {"quality": 90} if path.suffix in (".jpg", ".webp") else {}
    if exif:
        options["exif"] = exif
    image.save(path, **options)


def truth(spec):
    width, height = spec["size"]
    shapes = []
    for name, (y0, x0, y1, x1) in placed(**spec):
        box = {"x0": x0 * width, "y0": y0 * height, "x1": x1 * width, "y1": y1 * height}
        shapes.append({"name": name, "box": {k: round(v, 1) for k, v in box.items()}})
    return {"width": width, "height": height, "shapes": shapes}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, spec in EXAMPLES.items():
        save(picture(spec), args.out / name)
    truths = {name: truth(spec) for name, spec in EXAMPLES.items()}
    (args.out / "scenes.json").write_text(json.dumps(truths, indent=1) + "\n")
