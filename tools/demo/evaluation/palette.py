"""The colours of shapes, grounds and text, and how different two of them look."""

import numpy as np

# Only shades whose name nobody disputes. So there is no light red (it is pink or salmon), no dark orange (brown), dark
# yellow (olive), dark cyan (teal) or dark pink (magenta).
SHADES = {
    "vivid": {
        "red": ["#e02020", "#d3122a", "#c8161d", "#ee2a30"],
        "orange": ["#f57c14", "#ff8c1a", "#f07a10", "#fb8500"],
        "yellow": ["#f9d71c", "#ffe135", "#f7dc2e", "#fff04a"],
        "green": ["#2f9e44", "#1e8f3e", "#37b24d", "#4caf50"],
        "cyan": ["#00d0d6", "#1ad6d6", "#10c4cc", "#2bdbe0"],
        "blue": ["#1f5fd6", "#2748d8", "#1c4fb8", "#3366ff"],
        "purple": ["#7b2fa8", "#8e24aa", "#6f2dbd", "#5e2a9e"],
        "pink": ["#f56fb0", "#ff7eb9", "#ff69b4", "#ef6fae"],
    },
    "pastel": {
        "orange": ["#ffc48c", "#fdba74"],
        "yellow": ["#fff19c", "#fbe98a"],
        "green": ["#b4e3b1", "#a5d9a0"],
        "cyan": ["#a8f0f0", "#9be8e8"],
        "blue": ["#a3c1f7", "#9ab8f0"],
        "purple": ["#cbb2f0", "#c4a7e7"],
        "pink": ["#fbb6d4", "#f9a8cc"],
    },
    "dark": {
        "red": ["#8b1414", "#800f1a"],
        "green": ["#14532d", "#1b5e20"],
        "blue": ["#172a6e", "#1a237e"],
        "purple": ["#4a148c", "#46186e"],
    },
    # Without a name: in a grey picture shapes are asked for by their kind alone.
    "grey": {"": ["#101010", "#3c3c3c", "#6a6a6a", "#9a9a9a", "#c8c8c8", "#f4f4f4"]},
}
COLORS = list(SHADES["vivid"])

PALE = ["#ffffff", "#fbfaf5", "#f2f2f2", "#e9eaec"]
# Coloured and dark ones, but none that could be taken for a shape's colour.
FLAT = ["#e9dcc3", "#cfdde8", "#d3e2d6", "#e3cfcf", "#8a8d91", "#5b4a3c", "#3b4a5a", "#2b2b2e", "#101114", "#1c2b26"]
# Stops of gradients, in pairs.
BLENDS = [
    ("#ffffff", "#b9c3cf"), ("#f4ead8", "#c9a98a"), ("#dfe9f2", "#7d8fa3"), ("#e6efe4", "#8aa08c"),
    ("#5d6470", "#14161a"), ("#3e4f4a", "#0e1413"), ("#f3e4e4", "#b39a9a"), ("#c9c9c9", "#4a4a4a"),
]  # fmt: skip
GREYS = ["#ffffff", "#ececec", "#d0d0d0", "#909090", "#505050", "#202020", "#000000"]
INKS = ["#111111", "#222a35", "#3a2a1f", "#1d2f5f", "#5f1d1d", "#fafafa", "#fff3d0"]

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def rgb(code):
    """f64 [3] in 0..255 of a code such as #e02020."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], float)


def lab(values):
    """CIE L*a*b* (D65) of sRGB [..., 3] in 0..255."""
    values = np.asarray(values, float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def difference(one, others):
    """How different a colour looks from each of others [..., 3], in CIE76: 2 is just visible, 100 black from white."""
    return np.linalg.norm(lab(others) - lab(one), axis=-1)


def stands_out(color, around):
    """True if a person sees `color` at once among the pixels `around` [n, 3]."""
    seen = difference(color, around)
    return seen.mean() >= 27 and np.percentile(seen, 5) >= 20
