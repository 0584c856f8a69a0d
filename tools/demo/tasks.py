"""Prompts about a scene and their true answers, in PaliGemma's syntax.

Every function takes the scene and a numpy Generator and returns (prompt, answer), or None if the question
has no clear answer in this scene.
"""

import numpy as np

from scenes import BACKGROUND_NAMES, COLOR_NAMES, KINDS

BINS = 1024
SEG = "<seg>"  # stands for the 16 mask codes of one shape, see `with_codes`
ROWS, COLUMNS = ["top", "middle", "bottom"], ["left", "center", "right"]
EDGE = 0.05  # a centre this near to a third of the picture is not asked for
LARGER = 1.5  # least ratio of areas for "which is larger"
PHRASES = [0.16, 0.14, 0.16, 0.18, 0.18, 0.18]  # how often one to six objects are asked for
ABSENT = 0.3  # share of phrases that mostly name nothing
INSIDE, OUTSIDE = 0.8, 0.2  # shares of a shape's box from which it counts as in a region, and up to which as not


def _pick(rng, items):
    return items[rng.integers(len(items))]


def plural(kind):
    return kind + "es" if kind.endswith("s") else kind + "s"


def _join(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _a(name):
    return ("an " if name[0] in "aeiou" else "a ") + name


def _named(shapes):
    return _join([_a(s.name) for s in shapes])


def _spelled(rng, text):
    """Now and then the other spelling of grey."""
    return text.replace("gray", "grey") if rng.random() < 0.25 else text


def loc(value):
    return f"<loc{min(max(round(value * (BINS - 1)), 0), BINS - 1):04}>"


def box_tokens(box):
    return "".join(loc(v) for v in box)


def place(shape):
    """Where a shape is on a 3 x 3 grid, in words."""
    y, x = shape.center
    row, column = ROWS[min(int(y * 3), 2)], COLUMNS[min(int(x * 3), 2)]
    if row == "middle":
        return column
    return row if column == "center" else f"{row} {column}"


def _is_clear(shape):
    return all(abs(v - third) > EDGE for v in shape.center for third in (1 / 3, 2 / 3))


# Captions: shapes from left to right.


def caption_short(scene, rng):
    return ("cap en", _named(scene.shapes)) if scene.shapes else None


def caption(scene, rng):
    return ("caption en", f"{_named(scene.shapes)} on a {scene.background} background") if scene.shapes else None


def describe(scene, rng):
    parts = [f"{_a(s.name)} {'in' if place(s) == 'center' else 'at'} the {place(s)}" for s in scene.shapes]
    return ("describe en", _join(parts)) if parts else None


def _share_inside(shape, region):
    y0, x0, y1, x1 = (f(a, b) for f, a, b in zip((max, max, min, min), shape.box, region))
    return max(y1 - y0, 0) * max(x1 - x0, 0) / shape.area


def region(scene, rng, empty=False):
    """A box around one shape, as `detect` gives it, or any box, that cuts no shape in two; and the shapes in it.

    None if no such box is found. Only if it may be `empty` is there one without any shape.
    """
    for _ in range(8 if scene.shapes or empty else 0):
        if scene.shapes and rng.random() < 0.5:
            y0, x0, y1, x1 = _pick(rng, scene.shapes).box
            dy, dx = rng.uniform(-0.06, 0.2, 2) * (y1 - y0, x1 - x0)
            box = np.clip([y0 - dy, x0 - dx, y1 + dy, x1 + dx], 0, 1)
        else:
            (y0, x0), (height, width) = rng.uniform(0, 0.7, 2), rng.uniform(0.25, 1, 2)
            box = np.clip([y0, x0, y0 + height, x0 + width], 0, 1)
        shares = [_share_inside(s, box) for s in scene.shapes]
        found = [s for s, share in zip(scene.shapes, shares) if share >= INSIDE]
        if (found or empty) and not any(OUTSIDE < share < INSIDE for share in shares):
            return box, found
    return None


def caption_region(scene, rng):
    part = region(scene, rng)
    return part and (f"caption {box_tokens(part[0])}", _named(part[1]))


# Questions.


def _unique(scene, attribute):
    values = [getattr(s, attribute) for s in scene.shapes]
    return [s for s in scene.shapes if values.count(getattr(s, attribute)) == 1]


def how_many(scene, rng):
    return "how many shapes are there?", str(len(scene.shapes))


def _some(scene, rng):
    """A shape's kind and color, mostly of one that is there."""
    if scene.shapes and rng.random() < 0.8:
        shape = _pick(rng, scene.shapes)
        return shape.kind, shape.color
    return _pick(rng, KINDS), _pick(rng, COLOR_NAMES)


def how_many_kind(scene, rng):
    kind, color = _some(scene, rng)
    if rng.random() < 0.25:
        return f"how many {color} {plural(kind)} are there?", str(len(matches(scene, f"{color} {kind}")))
    return f"how many {plural(kind)} are there?", str(len(matches(scene, kind)))


def how_many_color(scene, rng):
    _, color = _some(scene, rng)
    return f"how many {color} shapes are there?", str(sum(s.color == color for s in scene.shapes))


def what_color(scene, rng):
    shapes = _unique(scene, "kind")
    if not shapes:
        return None
    shape = _pick(rng, shapes)
    return f"what {_pick(rng, ['color', 'colour'])} is the {shape.kind}?", shape.color


def what_shape(scene, rng):
    shapes = _unique(scene, "color")
    if not shapes:
        return None
    shape = _pick(rng, shapes)
    return f"what shape is {shape.color}?", shape.kind


def is_there(scene, rng):
    kind, color = _some(scene, rng)
    if rng.random() < 0.6:
        kind, color = (kind, _pick(rng, COLOR_NAMES)) if rng.random() < 0.5 else (_pick(rng, KINDS), color)
    name = kind if rng.random() < 0.4 else f"{color} {kind}"
    return f"is there {_a(name)}?", "yes" if matches(scene, name) else "no"


def where(scene, rng):
    shapes = [s for s in _unique(scene, "name") if _is_clear(s)]
    if not shapes:
        return None
    shape = _pick(rng, shapes)
    name = shape.kind if shape in _unique(scene, "kind") and rng.random() < 0.5 else shape.name
    return f"where is the {name}?", place(shape)


def which_larger(scene, rng):
    shapes = _unique(scene, "kind")
    if len(shapes) < 2:
        return None
    i, j = rng.permutation(len(shapes))[:2]
    first, second = shapes[i], shapes[j]
    big, small = (first, second) if first.area > second.area else (second, first)
    if big.area < LARGER * small.area:
        return None
    return f"which is larger, the {first.kind} or the {second.kind}?", big.kind


QUESTIONS = [how_many, how_many_kind, how_many_color, what_color, what_shape, is_there, where, which_larger]


def question(scene, rng):
    while True:
        asked = _pick(rng, QUESTIONS)(scene, rng)
        if asked is not None:
            return "answer en " + _spelled(rng, asked[0]), asked[1]


def ask(scene, rng):
    """A question with the given answer: about the leftmost shape that it fits."""
    asked = [("yes", f"is there {_a(s.name)}?") for s in scene.shapes[:1]]
    asked.append((str(len(scene.shapes)), "how many shapes are there?"))
    for attribute, make in (
        ("kind", lambda s: (s.color, f"what color is the {s.kind}?")),
        ("color", lambda s: (s.kind, f"what shape is {s.color}?")),
        ("name", lambda s: (place(s), f"where is the {s.name}?")),
    ):
        first = {}
        for answer, text in map(make, _unique(scene, attribute)):
            first.setdefault(answer, text)
        asked += first.items()
    answer, text = _pick(rng, asked)
    return f"question en {answer}", text


# Boxes and masks: the objects in the order asked, several of one kind from left to right.


def matches(scene, phrase):
    """The shapes that a phrase such as "red circle", "circle" or "shape" names, from left to right."""
    phrase = phrase.replace("grey", "gray")
    if phrase == "shape":
        return list(scene.shapes)
    return [s for s in scene.shapes if phrase in (s.name, s.kind)]


def _phrase(scene, rng):
    """A name to look for: one that is there, one that is nearly there, or any."""
    present = scene.shapes and rng.random() >= ABSENT
    shape = _pick(rng, scene.shapes) if present else None
    kind = shape.kind if shape else _pick(rng, KINDS)
    color = shape.color if shape else _pick(rng, COLOR_NAMES)
    if scene.shapes and not present and rng.random() < 0.5:
        near = _pick(rng, scene.shapes)
        kind, color = (near.kind, color) if rng.random() < 0.5 else (kind, near.color)
    return _spelled(rng, f"{color} {kind}" if rng.random() < 0.65 else kind)


def _phrases(scene, rng):
    """One to six phrases of which no two name one shape."""
    if rng.random() < 0.06:
        return ["shape"]
    phrases, named = [], []
    wanted = rng.choice(len(PHRASES), p=PHRASES) + 1
    for _ in range(3 * wanted):
        phrase = _phrase(scene, rng)
        found = matches(scene, phrase)
        if phrase not in phrases and not any(s is other for s in found for other in named):
            phrases.append(phrase)
            named += found
        if len(phrases) == wanted:
            break
    return phrases


def _located(scene, phrases, codes):
    found = [f"{box_tokens(s.box)}{codes(s)} {phrase}" for phrase in phrases for s in matches(scene, phrase)]
    return " ; ".join(found)


def detect(scene, rng):
    phrases = _phrases(scene, rng)
    return "detect " + " ; ".join(phrases), _located(scene, phrases, lambda s: "")


def segment(scene, rng, codes=lambda shape: SEG):
    """`codes` gives a shape's 16 mask tokens as text."""
    phrases = _phrases(scene, rng)
    return "segment " + " ; ".join(phrases), _located(scene, phrases, codes)


def ocr(scene, rng):
    return "ocr", " ".join(text.words for text in scene.texts)


def corpus():
    """Words that the tokenizer should know whole, in sentences."""
    names = COLOR_NAMES + ["grey"] + KINDS + [plural(k) for k in KINDS] + BACKGROUND_NAMES + ROWS + COLUMNS
    return [
        "cap en caption en describe en answer en detect segment ocr question en",
        "how many shapes are there? how many are there? what color is the? what colour is the?",
        "what shape is? is there a? is there an? where is the? which is larger, the or the? shape",
        "a and a on a background at the in the , and an ; yes no 0 1 2 3 4 5 6 7 8 9",
        " ".join(names),
    ]
