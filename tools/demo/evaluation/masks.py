"""PaliGemma's mask decoder in PyTorch: 16 codes become a mask of 64 x 64 values (arXiv 2407.07726, section 3.3)."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file


class Masks:
    def __init__(self, file):
        """`file` has the names of the published vae-oid.npz."""
        self.weights = {name: tensor.float() for name, tensor in load_file(file).items()}

    def whole(self, box, codes, width, height):
        """bool [height, width] of the picture, from a box in 0..1 and the codes of its mask."""
        canvas = np.zeros((height, width), bool)
        x0, y0, x1, y1 = (round(edge * size) for edge, size in zip(box, (width, height) * 2))
        if x0 < x1 and y0 < y1:
            values = Image.fromarray(self.decode(codes))
            canvas[y0:y1, x0:x1] = np.asarray(values.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)) > 0
        return canvas

    def decode(self, codes):
        """f32 [64, 64], above 0 where the object is."""
        with torch.no_grad():
            vectors = self.weights["_vq_vae._embedding"][torch.tensor(codes)]
            x = F.relu(self._conv("decoder.0", vectors.T.reshape(1, -1, 4, 4)))
            for block in ("decoder.2", "decoder.3"):
                inner = F.relu(self._conv(f"{block}.net.0", x, padding=1))
                inner = F.relu(self._conv(f"{block}.net.2", inner, padding=1))
                x = x + self._conv(f"{block}.net.4", inner)
            for layer in ("decoder.4", "decoder.6", "decoder.8", "decoder.10"):
                weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
                x = F.relu(F.conv_transpose2d(x, weight, bias, stride=2, padding=1))
            return self._conv("decoder.12", x)[0, 0].numpy()

    def _conv(self, layer, x, padding=0):
        return F.conv2d(x, self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"], padding=padding)
