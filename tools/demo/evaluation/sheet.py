"""A sheet of scenes with what they are asked, to look at."""

import re

import numpy as np
import skia
from PIL import Image

import categories
from questions import LAST_BIN

CELL, CAPTION, ACROSS = 230, 92, 8


def save(file, seed, rows):
    """`rows` scenes of each category; a row holds `ACROSS` of them."""
    count = rows * len(categories.CATEGORIES)
    surface = skia.Surface(ACROSS * CELL, -(-count // ACROSS) * (CELL + CAPTION))
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorWHITE)
    font, ink = skia.Font(skia.Typeface("DejaVu Sans"), 9), skia.Paint(Color=skia.ColorBLACK, AntiAlias=True)
    total = len(categories.CATEGORIES)
    for place in range(count):
        index = place // rows + place % rows * total
        category, scene, prompts = categories.numbered(seed, index)
        left, top = place % ACROSS * CELL, place // ACROSS * (CELL + CAPTION)
        _picture(canvas, scene, prompts, left, top)
        canvas.save()
        canvas.clipRect(skia.Rect.MakeXYWH(left, top, CELL - 2, CELL + CAPTION))
        for line, text in enumerate([f"{index} {category.name}"] + [_line(p) for p in prompts]):
            canvas.drawString(text, left + 4, top + CELL + 10 + 11 * line, font, ink)
        canvas.restore()
    Image.fromarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3]).save(file)


def _picture(canvas, scene, prompts, left, top):
    """The scene with a grey box round each shape and a red one round the region asked about."""
    width, height = scene.image.size
    scale = (CELL - 10) / max(width, height)
    image = skia.Image.fromarray(np.asarray(scene.image.convert("RGBA")), colorType=skia.kRGBA_8888_ColorType)
    canvas.save()
    canvas.translate(left + 4, top + 4)
    canvas.scale(width * scale, height * scale)
    smooth = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear)
    canvas.drawImageRect(image, skia.Rect.MakeWH(1, 1), smooth)
    # A width of 0 is one pixel at any scale.
    edge = skia.Paint(Color=skia.ColorGRAY, Style=skia.Paint.kStroke_Style, StrokeWidth=0)
    for box in [(0, 0, 1, 1)] + [s.box for s in scene.shapes]:
        canvas.drawRect(skia.Rect.MakeLTRB(*map(float, box)), edge)
    edge.setColor(skia.ColorRED)
    for prompt in prompts:
        if corners := re.findall(r"<loc(\d{4})>", prompt.text):
            y0, x0, y1, x1 = (int(corner) / LAST_BIN for corner in corners)
            canvas.drawRect(skia.Rect.MakeLTRB(x0, y0, x1, y1), edge)
    canvas.restore()


def _line(prompt):
    if prompt.measure in ("boxes", "masks"):
        return f"{prompt.text}: {len(prompt.right)}"
    right = prompt.right
    if prompt.measure == "captions":
        right = ", ".join(f"{number} {name}" for name, number in right.items())
    return f"{prompt.text.removeprefix('answer en ')} {right}"
