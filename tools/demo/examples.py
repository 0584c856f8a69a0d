"""Draws examples/images: a dozen scenes in the sizes, modes and formats that people send.

    python examples.py --out ../../examples/images

`scenes.json` beside them lists the contents of each: names, and boxes in pixels of the upright picture.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import scenes

WHITE, GRAY, BLACK = (250, 250, 248), (140, 142, 138), (22, 20, 24)
EXIF_ORIENTATION = 0x0112
TURNED = 6  # the viewer turns the stored picture by 90 degrees clockwise

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


def scene(size, on, shapes, noise=0.0, slope=(0.0, 0.0), **_):
    width, height = size
    background = scenes.Background("", on or WHITE, "", slope, noise, 90, 5)
    placed = []
    for name, x, y, share in shapes:
        color, kind = name.split()
        side = share * (width * height) ** 0.5
        half_y, half_x = side / height / 2, side / width / 2
        box = (y - half_y, x - half_x, y + half_y, x + half_x)
        placed.append(scenes.Shape(kind, color, scenes.COLORS[color], box))
    return scenes.Scene(width / height, background, placed)


def picture(spec):
    """The picture as displayed."""
    drawn = scene(**spec)
    image = Image.fromarray(scenes.draw(drawn, *spec["size"]))
    if spec.get("grey"):
        return image.convert("L")
    if spec["on"] is None:
        alpha = np.zeros(spec["size"][::-1], np.float32)
        for shape in drawn.shapes:
            top, left, share = scenes.coverage(shape, *spec["size"])
            window = alpha[top : top + share.shape[0], left : left + share.shape[1]]
            np.maximum(window, share, out=window)
        image.putalpha(Image.fromarray((alpha * 255).round().astype(np.uint8)))
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
    for shape in scene(**spec).shapes:
        y0, x0, y1, x1 = shape.box
        box = {"x0": x0 * width, "y0": y0 * height, "x1": x1 * width, "y1": y1 * height}
        shapes.append({"name": shape.name, "box": {k: round(v, 1) for k, v in box.items()}})
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
