"""The VQ-VAE of masks: 16 codes of 128 for a 64 x 64 mask, as PaliGemma's `<seg>` tokens name them.

    python vqvae.py --minutes 6 --out DIR
    python vqvae.py --minutes 3 --decoder ../../models/demo/vae-oid.safetensors --out DIR

writes DIR/vae-oid.safetensors (codebook and decoder, with the architecture and the tensor names of the published
vae-oid.npz; https://github.com/google-research/big_vision, PaliGemma's reference for referring segmentation) and
DIR/mask_codes.json (the codes of each pose of each shape, which the answers in training contain). With --decoder, it
finds codes for that one instead of training another.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from shapes import KINDS, POSES, pose_mask

SIDE = 64
CODES, WIDTH = 128, 512
DECAY = 0.97  # of the codebook's running means
COMMITMENT = 0.25
POSED = 0.5  # share of masks in exactly a pose that answers contain


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x):
        return x + self.net(x)


def decoder():
    """Codes' embeddings [n, 512, 4, 4] to masks [n, 1, 64, 64] in about -1..1."""
    layers = [nn.Conv2d(WIDTH, 128, 1), nn.ReLU(), Residual(128), Residual(128)]
    for before, after in [(128, 128), (128, 64), (64, 32), (32, 16)]:
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 1, 1))


def encoder():
    """Masks [n, 1, 64, 64] in -1..1 to [n, 512, 4, 4]."""
    layers = []
    for before, after in [(1, 16), (16, 32), (32, 64), (64, 128)]:
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, Residual(128), nn.Conv2d(128, WIDTH, 1))


class Codebook(nn.Module):
    """128 vectors, each the running mean of its nearest data; unused ones move to data points."""

    def __init__(self):
        super().__init__()
        self.vectors = nn.Buffer(torch.randn(CODES, WIDTH))
        self.counts = nn.Buffer(torch.ones(CODES))
        self.sums = nn.Buffer(self.vectors.clone())

    def nearest(self, x):
        """Codes [n, 16] of [n, 512, 4, 4], row by row."""
        flat = x.flatten(2).transpose(1, 2)
        return torch.cdist(flat, self.vectors[None]).argmin(-1)

    def look_up(self, codes):
        return self.vectors[codes].transpose(1, 2).unflatten(-1, (4, 4))

    @torch.no_grad()
    def update(self, x, codes):
        flat, codes = x.flatten(2).transpose(1, 2).flatten(0, 1), codes.flatten()
        used = F.one_hot(codes, CODES).float()
        self.counts.lerp_(used.sum(0), 1 - DECAY)
        self.sums.lerp_(used.t() @ flat, 1 - DECAY)
        dead = self.counts < 0.2
        fresh = flat[torch.randint(len(flat), (int(dead.sum()),))]
        self.counts[dead], self.sums[dead] = 1.0, fresh
        self.vectors.copy_(self.sums / self.counts[:, None])


def drawn_mask(rng):
    """A mask in its box, f32 [64, 64] in 0..1: of a pose, or of a shape of any form and turn."""
    kind = KINDS[rng.integers(len(KINDS))]
    if rng.random() < POSED:
        return pose_mask(kind, rng.integers(POSES[kind]), SIDE)
    return pose_mask(kind, rng.uniform(0, POSES[kind]), SIDE, rng.random())


def masks(rng, count):
    """f32 [count, 1, 64, 64] in -1..1."""
    return torch.from_numpy(np.stack([drawn_mask(rng) for _ in range(count)]))[:, None] * 2 - 1


def iou(a, b):
    """Mean intersection over union of masks, cut at 0."""
    a, b = a > 0, b > 0
    return ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3))).mean().item()


def train(minutes, seed, decoder_file=None):
    """Encoder, decoder and codebook; the last two stay as they are if a file has them."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    enc, dec, book = encoder(), decoder(), Codebook()
    if decoder_file:
        book.vectors, dec = load_decoder(decoder_file)
        dec.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in [*enc.parameters(), *dec.parameters()] if p.requires_grad], 1e-3)
    start, step = time.process_time(), 0
    while (share := (time.process_time() - start) / (minutes * 60)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - 0.95 * share)
        batch = masks(rng, 32)
        latent = enc(batch)
        codes = book.nearest(latent)
        quantised = book.look_up(codes)
        made = dec(latent + (quantised - latent).detach())
        loss = F.mse_loss(made, batch) + COMMITMENT * F.mse_loss(latent, quantised)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if share < 0.9 and not decoder_file:
            book.update(latent, codes)
        step += 1
        if step % 50 == 0:
            used = len(codes.unique())
            print(f"step {step} loss {loss.item():.4f} IoU {iou(made, batch):.3f} codes {used}", flush=True)
    return enc.eval(), dec.eval(), book


@torch.no_grad()
def improved(codes, mask, dec, book):
    """Codes [16] after each has been replaced by the one that brings the decoded mask nearest to the true one."""
    codes = codes.clone()
    for place in range(len(codes)):
        tried = codes.repeat(CODES, 1)
        tried[:, place] = torch.arange(CODES)
        codes = tried[(dec(book.look_up(tried)) - mask).square().mean((1, 2, 3)).argmin()]
    return codes


def write(folder, enc, dec, book):
    """The decoder in f16, which costs no visible pixel and half the size, and the poses' codes."""
    tensors = {"_vq_vae._embedding": book.vectors} | {f"decoder.{k}": v for k, v in dec.state_dict().items()}
    save_file({k: v.half().contiguous() for k, v in tensors.items()}, folder / "vae-oid.safetensors")
    rows = []
    for kind in KINDS:
        true = torch.from_numpy(np.stack([pose_mask(kind, i, SIDE) for i in range(POSES[kind])]))[:, None] * 2 - 1
        with torch.no_grad():
            codes = book.nearest(enc(true))
            codes = torch.stack([improved(row, mask, dec, book) for row, mask in zip(codes, true)])
            print(f"{kind}: IoU {iou(dec(book.look_up(codes)), true):.3f} of {len(codes)} poses", flush=True)
        rows.append(f' "{kind}": [\n  ' + ",\n  ".join(map(json.dumps, codes.tolist())) + "\n ]")
    (folder / "mask_codes.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


class MaskCodes:
    """The 16 `<seg>` tokens of a shape as text.

    A shape has the codes of the pose that it is nearest to, so that there are few answers to learn.
    """

    def __init__(self, path):
        codes = json.loads(Path(path).read_text())
        self.text = {kind: ["".join(f"<seg{c:03}>" for c in row) for row in codes[kind]] for kind in KINDS}

    def __call__(self, shape):
        return self.text[shape.kind][shape.pose]


def load_decoder(path):
    """(codebook [128, 512], decoder) of a file that `write` made."""
    tensors = {k: v.float() for k, v in load_file(path).items()}
    codebook = tensors.pop("_vq_vae._embedding")
    dec = decoder()
    dec.load_state_dict({k.removeprefix("decoder."): v for k, v in tensors.items() if k.startswith("decoder.")})
    return codebook, dec.eval()


def decode(codebook, dec, codes):
    """f32 [64, 64] of 16 codes."""
    with torch.no_grad():
        return dec(codebook[torch.tensor(codes)].t().reshape(1, WIDTH, 4, 4))[0, 0].numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--decoder", type=Path, help="find codes for this decoder instead")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    write(args.out, *train(args.minutes, args.seed, args.decoder))
