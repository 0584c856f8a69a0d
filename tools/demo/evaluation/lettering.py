"""Words and numbers, and the fonts they are set in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skia

from palette import INKS, rgb, stands_out

FOLDER = Path("/usr/share/fonts/truetype")
# Debian's fonts-dejavu-core, fonts-liberation, fonts-freefont-ttf, fonts-lato and fonts-open-sans.
FONTS = [
    "dejavu/DejaVuSans.ttf",
    "dejavu/DejaVuSans-Bold.ttf",
    "dejavu/DejaVuSerif.ttf",
    "dejavu/DejaVuSansMono.ttf",
    "liberation/LiberationSans-Regular.ttf",
    "liberation/LiberationSans-Bold.ttf",
    "liberation/LiberationSerif-Regular.ttf",
    "liberation/LiberationSerif-BoldItalic.ttf",
    "liberation/LiberationMono-Bold.ttf",
    "freefont/FreeSans.ttf",
    "freefont/FreeSerifBold.ttf",
    "lato/Lato-Regular.ttf",
    "lato/Lato-Black.ttf",
    "open-sans/OpenSans-Semibold.ttf",
    "open-sans/OpenSans-Italic.ttf",
]
# What people write on signs, labels and slides. No names of colours or shapes: those in text are not in the picture.
WORDS = """
    open closed exit enter hello welcome coffee bread milk tea water juice apple lemon banana cherry sugar salt menu
    today sale free offer price ticket train bus taxi hotel park beach river garden house kitchen office school music
    night summer winter monday friday march april london paris berlin happy birthday thanks please danger stop caution
    quiet push pull start finish game table chair paper bottle basket bicycle market doctor letter number big fast
""".split()
# Letters whose capital is the same drawing in large: a word of these alone may be read in either case.
SAME_IN_CAPITALS = set("cosuvwxzpk")

# A letter this small is lost when the picture is resized to the model's square, for people as well.
SMALLEST_EM = 0.15  # of the short side
SMALLEST_ADVANCE = 0.055  # of the width


@dataclass
class Text:
    words: str
    x: float  # where the baseline begins, in pixels
    y: float
    em: float
    font: str
    rgb: np.ndarray

    def _font(self, smooth=True):
        font = skia.Font(_typeface(self.font), self.em)
        font.setEdging(skia.Font.Edging.kAntiAlias if smooth else skia.Font.Edging.kAlias)
        return font

    def bounds(self):
        """x0, y0, x1, y1 of the letters, in pixels."""
        box = skia.Rect()
        self._font().measureText(self.words, bounds=box)
        return self.x + box.left(), self.y + box.top(), self.x + box.right(), self.y + box.bottom()

    def draw(self, canvas, smooth):
        r, g, b = (int(v) for v in self.rgb)
        paint = skia.Paint(Color=skia.Color(r, g, b))
        canvas.drawString(self.words, self.x, self.y, self._font(smooth), paint)


_faces = {}


def _typeface(name):
    if name not in _faces:
        file = FOLDER / name
        if not file.exists():
            raise SystemExit(f"{file} is missing; README.md lists the packages with the fonts")
        _faces[name] = skia.Typeface.MakeFromFile(str(file))
    return _faces[name]


def word(rng):
    """In small letters, with a capital, or in capitals."""
    while True:
        drawn = str(rng.choice(WORDS))
        form = rng.choice(["small", "title", "capitals"])
        if form == "title":
            return drawn.capitalize()
        if not set(drawn) <= SAME_IN_CAPITALS:
            return drawn.upper() if form == "capitals" else drawn


def number(rng):
    """One to five digits."""
    digits = int(rng.integers(1, 6))
    return str(rng.integers(10 ** (digits - 1), 10**digits))


def ink(rng, around):
    """A colour that can be read among the pixels `around` [n, 3], or None."""
    for code in rng.permutation(INKS):
        if stands_out(rgb(code), around):
            return rgb(code)
    return None


def fits(text, width, height):
    """True if the letters lie inside the picture and are large enough to read."""
    x0, y0, x1, y1 = text.bounds()
    margin = 0.02 * min(width, height)
    inside = margin <= x0 and margin <= y0 and x1 <= width - margin and y1 <= height - margin
    letters = (x1 - x0) / len(text.words)
    return inside and text.em >= SMALLEST_EM * min(width, height) and letters >= SMALLEST_ADVANCE * width
