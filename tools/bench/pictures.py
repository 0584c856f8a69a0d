"""What is asked: noise pictures, which no cache of image features knows, and one prompt."""

import numpy as np
from PIL import Image

PROMPT = "answer en where is the cow standing?"


def noise(side, seed, count):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]
