"""Prompts about a scene and their true answers, in PaliGemma's syntax.

Every function takes the scene and a numpy Generator and returns (prompt, answer), or None if the question
has no clear answer in this scene.
"""

from scenes import BACKGROUND_NAMES, COLOR_NAMES, KINDS

BINS = 1024
SEG = "<seg>"  # stands for the 16 mask codes of one shape, see `with_codes`
ROWS, COLUMNS = ["top", "middle", "bottom"], ["left", "center", "right"]
EDGE = 0.05  # a centre this near to a third of the picture is not asked for
LARGER = 1.5  # least ratio of areas for "which is larger"


def _pick(rng, items):
    return items[rng.integers(len(items))]


def _plural(kind):
    return kind + "es" if kind.endswith("s") else kind + "s"


def _join(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _a(name):
    return ("an " if name[0] in "aeiou" else "a ") + name


def loc(value):
    return f"<loc{min(max(round(value * (BINS - 1)), 0), BINS - 1):04}>"


def box_tokens(shape):
    return "".join(loc(v) for v in shape.box)


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
    return "cap en", _join([_a(s.name) for s in scene.shapes])


def caption(scene, rng):
    return "caption en", f"{_join([_a(s.name) for s in scene.shapes])} on a {scene.background.name} background"


def describe(scene, rng):
    parts = [f"{_a(s.name)} {'in' if place(s) == 'center' else 'at'} the {place(s)}" for s in scene.shapes]
    return "describe en", _join(parts)


# Questions.


def _unique(scene, attribute):
    values = [getattr(s, attribute) for s in scene.shapes]
    return [s for s in scene.shapes if values.count(getattr(s, attribute)) == 1]


def how_many(scene, rng):
    return "how many shapes are there?", str(len(scene.shapes))


def how_many_kind(scene, rng):
    kind = _pick(rng, scene.shapes).kind if rng.random() < 0.8 else _pick(rng, KINDS)
    return f"how many {_plural(kind)} are there?", str(sum(s.kind == kind for s in scene.shapes))


def how_many_color(scene, rng):
    color = _pick(rng, scene.shapes).color if rng.random() < 0.8 else _pick(rng, COLOR_NAMES)
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
    shape = _pick(rng, scene.shapes)
    kind, color = shape.kind, shape.color
    if rng.random() < 0.6:
        kind, color = (kind, _pick(rng, COLOR_NAMES)) if rng.random() < 0.5 else (_pick(rng, KINDS), color)
    if rng.random() < 0.4:
        kind = _pick(rng, KINDS) if rng.random() < 0.5 else kind
        return f"is there {_a(kind)}?", "yes" if any(s.kind == kind for s in scene.shapes) else "no"
    name = f"{color} {kind}"
    return f"is there {_a(name)}?", "yes" if any(s.name == name for s in scene.shapes) else "no"


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
            return "answer en " + asked[0], asked[1]


# Boxes and masks: the objects in the order asked, several of one kind from left to right.


def _phrase(scene, rng):
    """A name to look for: mostly one that is there."""
    shape = _pick(rng, scene.shapes)
    if rng.random() < 0.15:
        shape = None
    kind = shape.kind if shape else _pick(rng, KINDS)
    color = shape.color if shape else _pick(rng, COLOR_NAMES)
    style = rng.random()
    return f"{color} {kind}" if style < 0.5 else kind if style < 0.9 else "shape"


def matches(scene, phrase):
    """The shapes that a phrase such as "red circle", "circle" or "shape" names, from left to right."""
    if phrase == "shape":
        return list(scene.shapes)
    return [s for s in scene.shapes if phrase in (s.name, s.kind)]


def _located(scene, phrases, codes):
    found = [f"{box_tokens(s)}{codes(s)} {phrase}" for phrase in phrases for s in matches(scene, phrase)]
    return " ; ".join(found)


def _phrases(scene, rng, several):
    phrases = [_phrase(scene, rng)]
    if phrases[0] != "shape" and rng.random() < several:
        second = _phrase(scene, rng)
        # Two phrases must not name one shape.
        if second != "shape" and not any(s in matches(scene, phrases[0]) for s in matches(scene, second)):
            phrases.append(second)
    return phrases


def detect(scene, rng):
    phrases = _phrases(scene, rng, 0.3)
    return "detect " + " ; ".join(phrases), _located(scene, phrases, lambda s: "")


def segment(scene, rng, codes=lambda shape: SEG):
    """`codes` gives a shape's 16 mask tokens as text."""
    phrases = _phrases(scene, rng, 0.15)
    return "segment " + " ; ".join(phrases), _located(scene, phrases, codes)


def corpus():
    """Words that the tokenizer should know whole, in sentences."""
    names = " ".join(COLOR_NAMES + KINDS + [_plural(k) for k in KINDS] + BACKGROUND_NAMES + ROWS + COLUMNS)
    return [
        "cap en caption en describe en answer en detect segment ocr question en",
        "how many shapes are there? how many are there? what color is the? what colour is the?",
        "what shape is? is there a? is there an? where is the? which is larger, the or the? shape",
        "a and a on a background at the in the , and an ; yes no 0 1 2 3 4 5 6 7 8 9",
        names,
    ]
