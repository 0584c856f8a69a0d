"""Makes tests/goldens/masks with PyTorch: the demo's mask decoder applied to codes.

    python tools/goldens/make_mask_goldens.py tests/goldens/masks

The codes are those of the demo's shapes, plus random ones that cover the whole codebook.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "demo"))
from vqvae import CODES, decode, load_decoder  # noqa: E402

RANDOM = 10


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    shapes = json.loads((ROOT / "tools/demo/mask_codes.json").read_text()).values()
    drawn = torch.randint(CODES, (RANDOM, 16), generator=torch.Generator().manual_seed(0))
    codes = torch.cat([torch.tensor(list(shapes)), drawn])
    codebook, decoder = load_decoder(ROOT / "models/demo/vae-oid.safetensors")
    masks = torch.stack([torch.from_numpy(decode(codebook, decoder, row)) for row in codes.tolist()])
    save_file({"codes": codes.to(torch.uint8), "masks": masks}, folder / "golden.safetensors")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
