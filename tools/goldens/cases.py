"""The images and prompts of the model goldens."""

import numpy as np
from PIL import Image, ImageDraw

LONG = (
    "answer en In this image we can see a street with cars, trees, lights, a bus and people walking on the "
    "road. There is a picture of the mountain on the wall, and two people are standing near a large building "
    "under a blue sky with white clouds. What colour is the small triangle between the red circle and the "
    "green square, and how many of the people near it are wearing a hat?"
)

# One row per checkpoint: (a task, non-ASCII, loc and seg typed by the user, text that looks special, odd spaces)
VARIED = [
    ("caption en", "describe fr: être naïve, café crème", "caption <loc0123><loc0456><loc0789><loc1023>",
     "answer en what is <image>?", "caption en\n"),
    ("describe en", "answer de Schöne Grüße über München?", "what is at <loc0000> and <seg007>?",
     "<bos>caption en<eos>", " caption en"),
    ("answer en How many cats are there?", "answer ja 東京の猫は何匹ですか", "segment <seg000><seg127> cat",
     "<image><image>", "caption en "),
    ("detect cat ; dog", "caption zh 漢字と図", "<loc0512>", "<pad><unk><mask>", "  detect  cat  ;  dog  "),
    ("ocr", "what is 🐈‍⬛ doing? 🎉", "caption <loc0001> <loc0002> <loc0003> <loc0004>",
     "ocr <start_of_turn>user<end_of_turn>", "ocr\n\n"),
    ("segment the white cat", "красный кот", "detect <seg001>; <loc1023>", "<eos>", "\nocr"),
    ("question en yes", "el niño pequeño 👩‍👩‍👧", "<loc0123>text<loc0124>", "is <pad> a <bos> or an <eos>?", "a\nb\n"),
    ("answer en What is the dog doing?", "日本語 한국어 العربية", "<seg007> <loc0123>", "<image>", "   "),
    ("caption en ; detect person", "naïve coöperation €5 – “ok”", "<loc9999> <loc12> <seg128> <loc0007>",
     "<unused3> <bos> <0x41>", "\tcaption en\t"),
]


def prompts(index):
    """(image, prompt) pairs of the checkpoint at `index`. The first four ask two images the same."""
    task, foreign, located, special, spaced = VARIED[index]
    third = 2 if images_per_checkpoint(index) > 2 else 0
    return [
        (0, ""),
        (1, ""),
        (0, task),
        (1, task),
        (third, foreign),
        (1, located),
        (0, special),
        (third, LONG),
        (1, spaced),
    ]


def images_per_checkpoint(index):
    """Two for the one whose images are large, three for the others."""
    return 2 if index == 0 else 3


def images(index, side):
    """u8 arrays [side, side, 3]: noise, shapes, and (where there are three) a gradient."""
    random = np.random.default_rng(100 + index)
    made = [_noise(random, side), _shapes(random, side), _gradient(random, side)]
    return made[: images_per_checkpoint(index)]


def _noise(random, side):
    return random.integers(0, 256, (side, side, 3), dtype=np.uint8)


def _gradient(random, side):
    start, right, down = random.integers(0, 128, (3, 3))
    steps = np.linspace(0, 1, side)
    picture = start + right * steps[None, :, None] + down * steps[:, None, None]
    return picture.astype(np.uint8)


def _shapes(random, side):
    def colour():
        return tuple(int(c) for c in random.integers(0, 256, 3))

    picture = Image.new("RGB", (side, side), colour())
    draw = ImageDraw.Draw(picture)
    draw.ellipse((side // 8, side // 8, side // 2, side // 2), fill=colour())
    draw.rectangle((side // 2, side // 3, side - 3, side - side // 4), fill=colour())
    draw.polygon([(2, side - 2), (side // 3, side // 2), (side // 2, side - 4)], fill=colour())
    draw.line((0, side - 1, side - 1, 0), fill=colour(), width=2)
    return np.asarray(picture)
