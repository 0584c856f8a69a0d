"""A sheet of scenes with what they are asked, to look at."""

import numpy as np
import skia
from PIL import Image

import categories

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
        _picture(canvas, scene, left, top)
        for line, text in enumerate([f"{index} {category.name}"] + [_line(p) for p in prompts]):
            canvas.drawString(text[:48], left + 4, top + CELL + 10 + 11 * line, font, ink)
    Image.fromarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3]).save(file)


def _picture(canvas, scene, left, top):
    width, height = scene.image.size
    scale = (CELL - 10) / max(width, height)
    image = skia.Image.fromarray(np.asarray(scene.image.convert("RGBA")), colorType=skia.kRGBA_8888_ColorType)
    target = skia.Rect.MakeXYWH(left + 4, top + 4, width * scale, height * scale)
    canvas.drawImageRect(image, target, skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear))
    edge = skia.Paint(Color=skia.ColorGRAY, Style=skia.Paint.kStroke_Style)
    canvas.drawRect(target, edge)
    for shape in scene.shapes:
        x0, y0, x1, y1 = shape.box
        corners = (left + 4 + x0 * width * scale, top + 4 + y0 * height * scale)
        size = ((x1 - x0) * width * scale, (y1 - y0) * height * scale)
        canvas.drawRect(skia.Rect.MakeXYWH(*corners, *size), edge)


def _line(prompt):
    if prompt.measure in ("boxes", "masks"):
        return f"{prompt.text}: {len(prompt.right)}"
    right = prompt.right
    if prompt.measure == "captions":
        right = ", ".join(f"{number} {name}" for name, number in right.items())
    return f"{prompt.text.removeprefix('answer en ')} {right}"
