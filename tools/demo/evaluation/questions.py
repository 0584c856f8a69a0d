"""What a scene is asked, in the demo's wording, and what is right."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

from palette import COLORS
from shapes import KINDS

CAPTIONS = ["cap en", "caption en", "describe en"]
LAST_BIN = 1023
# How much wider the larger shape is at least, so that a person sees it at once.
LARGER = 1.3
# How far a shape's centre is at least from the lines between left, centre and right.
BETWEEN = 0.06


@dataclass
class Prompt:
    measure: str  # questions, captions, counts, words, boxes or masks
    kind: str  # within the measure
    text: str
    right: object  # what the answer is compared with


def whole(scene, rng):
    """Two questions, a caption, boxes and masks."""
    return questions(scene, rng, 2) + [caption(scene, rng)] + objects(scene, phrases(scene, rng, rng.integers(1, 3)))


def questions(scene, rng, count):
    """Questions of different kinds."""
    kinds = {kind: list(ask(scene, rng)) for kind, ask in _KINDS.items()}
    possible = [kind for kind, asked in kinds.items() if asked]
    chosen = rng.choice(possible, count, replace=False)
    picked = [(str(kind), kinds[kind][rng.integers(len(kinds[kind]))]) for kind in chosen]
    return [Prompt("questions", kind, f"answer en {text}", right) for kind, (text, right) in picked]


def caption(scene, rng):
    form = str(rng.choice(CAPTIONS))
    return Prompt("captions", form, form, Counter(s.name for s in scene.shapes))


def read(scene, rng):
    fonts = {text.font for text in scene.texts}
    kind = Path(fonts.pop()).stem if len(fonts) == 1 else "several fonts"
    return [Prompt("words", kind, "ocr", scene.words)]


def counting(prompt):
    """The same prompt to an adapter that counts in captions, `2 circles, 1 star`, without the colours."""
    if prompt.measure != "captions":
        return prompt
    kinds = Counter(name.split()[-1] for name in prompt.right.elements())
    return Prompt("counts", prompt.kind, prompt.text, dict(kinds))


def region(size):
    """A caption of a part of the picture with `size` of its shapes; nothing if it has no such part."""

    def ask(scene, rng):
        parts = []
        for inside in combinations(scene.shapes, size):
            loose = rng.uniform(0, 0.12)
            box = _around([s.box for s in inside], loose)
            if not any(_meet(box, s.box) for s in scene.shapes if s not in inside):
                parts.append((box, inside))
        if not parts:
            return []
        box, inside = parts[rng.integers(len(parts))]
        x0, y0, x1, y1 = (round(edge * LAST_BIN) for edge in box)
        text = "caption " + "".join(f"<loc{edge:04}>" for edge in (y0, x0, y1, x1))
        return [Prompt("captions", "of a region", text, Counter(s.name for s in inside))]

    return ask


def present(count):
    """Boxes and masks of `count` phrases, all of them of shapes in the picture."""

    def ask(scene, rng):
        return objects(scene, phrases(scene, rng, count))

    return ask


def absent(scene, rng):
    """Boxes and masks of one to six phrases, at least one of them of a shape that is not there."""
    count = rng.integers(1, 7)
    there = phrases(scene, rng, min(rng.integers(0, count), len(scene.shapes)))
    mixed = there + _absent(scene, rng, count - len(there))
    return objects(scene, [mixed[i] for i in rng.permutation(len(mixed))])


def phrases(scene, rng, count):
    """Names of up to `count` different shapes; a single one may be asked for by its kind alone."""
    names = sorted({s.name for s in scene.shapes})
    chosen = [str(n) for n in rng.permutation(names)[:count]]
    if count == 1 and rng.random() < 0.25:
        return [chosen[0].split()[-1]]
    return chosen


def objects(scene, asked):
    wanted = [(phrase, s) for phrase in asked for s in scene.shapes if phrase in (s.name, s.kind)]
    joined = " ; ".join(asked)
    kind = f"{len(asked)} phrases" if len(asked) > 1 else "1 phrase"
    return [Prompt("boxes", kind, f"detect {joined}", wanted), Prompt("masks", kind, f"segment {joined}", wanted)]


def _absent(scene, rng, count):
    """Names that are not there; half of them share a colour or a kind with one that is."""
    names = [f"{color} {kind}" for color in COLORS for kind in KINDS]
    there = {s.name for s in scene.shapes}
    free = [n for n in rng.permutation(names) if n not in there]
    parts = {part for s in scene.shapes for part in (s.color, s.kind)}
    close = [n for n in free if set(n.split()) & parts][: count // 2 + int(rng.integers(2))]
    rest = [n for n in free if n not in close]
    return [str(n) for n in (close + rest)[:count]]


def _how_many(scene, rng):
    shapes = scene.shapes
    yield "how many shapes are there?", {str(len(shapes))}
    for kind, number in Counter(s.kind for s in shapes).items():
        yield f"how many {_plural(kind)} are there?", {str(number)}
    for color, number in Counter(s.color for s in shapes if s.color).items():
        yield f"how many {color} shapes are there?", {str(number)}


def _what_color(scene, rng):
    spelling = rng.choice(["color", "colour"])
    for shape in _only(scene, "kind"):
        if shape.color:
            yield f"what {spelling} is the {shape.kind}?", {shape.color}


def _what_shape(scene, rng):
    for shape in _only(scene, "color"):
        if shape.color:
            yield f"what shape is {shape.color}?", {shape.kind}


def _is_there(scene, rng):
    if rng.random() < 0.5:
        shape = scene.shapes[rng.integers(len(scene.shapes))]
        yield f"is there {_a(shape.kind if rng.random() < 0.4 else shape.name)}?", {"yes"}
        return
    missing = [kind for kind in KINDS if kind not in {s.kind for s in scene.shapes}]
    if scene.look.shades != "grey" and (rng.random() < 0.6 or not missing):
        yield f"is there {_a(_absent(scene, rng, 1)[0])}?", {"no"}
    elif missing:
        yield f"is there {_a(str(rng.choice(missing)))}?", {"no"}


def _where(scene, rng):
    for shape in _only(scene, "name"):
        x, y = (shape.box[0] + shape.box[2]) / 2, (shape.box[1] + shape.box[3]) / 2
        if min(abs(v - line) for v in (x, y) for line in (1 / 3, 2 / 3)) >= BETWEEN:
            yield f"where is the {shape.name}?", place(x, y)


def _which_larger(scene, rng):
    for one, other in permutations(_only(scene, "kind"), 2):
        if max(one.across, other.across) >= LARGER * min(one.across, other.across):
            larger = max(one, other, key=lambda s: s.across)
            yield f"which is larger, the {one.kind} or the {other.kind}?", {larger.kind, larger.name}


_KINDS = {
    "how many": _how_many,
    "what color": _what_color,
    "what shape": _what_shape,
    "is there": _is_there,
    "where": _where,
    "which is larger": _which_larger,
}


def place(x, y):
    """The ways to say where a point of the picture is."""
    across, down = ("left", "center", "right")[int(x * 3)], ("top", "center", "bottom")[int(y * 3)]
    if across == down:
        return {"center", "middle"}
    if down == "center":
        return {across, f"center {across}", f"middle {across}"}
    if across == "center":
        return {down, f"{down} center", f"{down} middle"}
    return {f"{down} {across}"}


def _only(scene, attribute):
    """The shapes that alone have their kind, colour or name."""
    numbers = Counter(getattr(s, attribute) for s in scene.shapes)
    return [s for s in scene.shapes if numbers[getattr(s, attribute)] == 1]


def _plural(kind):
    return kind + ("es" if kind == "cross" else "s")


def _a(thing):
    return ("an " if thing[0] in "aeiou" else "a ") + thing


def _around(boxes, loose):
    """The box of boxes, larger by that share of its sides, within the picture."""
    x0, y0, x1, y1 = (f(side) for f, side in zip((min, min, max, max), zip(*boxes)))
    dx, dy = loose * (x1 - x0), loose * (y1 - y0)
    return max(x0 - dx, 0.0), max(y0 - dy, 0.0), min(x1 + dx, 1.0), min(y1 + dy, 1.0)


def _meet(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
