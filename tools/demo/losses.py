"""The losses of the two stages of training."""

import torch
from torch import nn
from torch.nn import functional as F

from data import CHARACTERS, CLASSES, FINE, HALVES
from tasks import BINS

COVER_WEIGHT = 10.0
KIND_WEIGHT = 2.0  # the hardest to learn
POSE_WEIGHT = 0.3
LETTER_WEIGHT = 0.6
RARE = 6.0  # head start of "no character here", or the first steps would be about nothing else
PICTURE_WEIGHT = 0.2  # of labels that every patch has


def gaussian_targets(bins, width):
    """f32 [n, 1024] around `bins` [n] (fractional bins are fine), each a Gaussian of `width` bins."""
    distance = torch.arange(BINS, device=bins.device)[None] - bins[:, None]
    return torch.softmax(-0.5 * (distance / width) ** 2, 1)


class DenseHead(nn.Module):
    """Reads the dense labels off the projected patches; used in training only.

    Boxes are read as `<loc>` tokens, through the language model's own embedding of them.
    """

    def __init__(self, width, generator):
        super().__init__()
        self.classes = nn.Linear(width, sum(CLASSES.values()))
        self.cover = nn.Linear(width, FINE * FINE)
        self.corners = nn.Linear(width, 4 * width)
        self.characters = nn.Linear(width, HALVES * CHARACTERS)
        for layer in (self.classes, self.cover, self.corners, self.characters):
            nn.init.normal_(layer.weight, 0, width**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.characters.bias.view(HALVES, CHARACTERS)[:, 0] = RARE

    def forward(self, features, dense, loc_embedding, width):
        """The loss and its parts; `features` f32 [n, patches, hidden], `width` of the loc targets in bins.

        Losses of classes are sums over all patches by the number of those with a shape: most are background.
        """
        parts = {}
        inside = dense.labels[..., 0] > 0
        for i, logits in enumerate(self.classes(features).split(list(CLASSES.values()), -1)):
            loss = F.cross_entropy(logits.flatten(0, 1), dense.labels[..., i].flatten(), reduction="sum")
            parts[list(CLASSES)[i]] = loss / inside.sum()
        letters, labels = self.characters(features).reshape(-1, CHARACTERS), dense.characters.flatten()
        some = labels > 0
        parts["letters"] = F.cross_entropy(letters, labels, reduction="sum") / some.sum().clamp(min=1)
        right = letters.detach()[some].argmax(-1) == labels[some]
        parts["read"] = right.sum() / some.sum().clamp(min=1)
        parts["cover"] = COVER_WEIGHT * F.binary_cross_entropy_with_logits(self.cover(features), dense.cover)
        corners = self.corners(features[inside]).unflatten(-1, (4, -1)).flatten(0, 1)
        corners = F.rms_norm(corners, corners.shape[-1:])
        logits = corners @ loc_embedding.t()
        bins = dense.boxes[inside].flatten() * (BINS - 1)
        parts["box"] = -(gaussian_targets(bins, width) * logits.log_softmax(-1)).sum(-1).mean()
        parts["box_error"] = (logits.argmax(-1) - bins).abs().mean().detach()
        weights = {"kind": KIND_WEIGHT, "pose": POSE_WEIGHT, "shapes": PICTURE_WEIGHT, "background": PICTURE_WEIGHT}
        weights |= {"letters": LETTER_WEIGHT, "box_error": 0, "read": 0}
        return sum(weights.get(name, 1) * loss for name, loss in parts.items()), parts


def answer_loss(logits, targets, first_loc, first_seg, width):
    """Cross-entropy of answer tokens; `logits` f32 [n, vocabulary], `targets` [n].

    A `<loc>` token's target is a Gaussian over its neighbours. Mask codes come sixteen at a time, so each
    counts for less.
    """
    log_probability = logits.log_softmax(-1)
    loss = F.nll_loss(log_probability, targets, reduction="none")
    is_loc = (targets >= first_loc) & (targets < first_loc + BINS)
    rows = is_loc.nonzero()[:, 0]
    if len(rows):
        smooth = gaussian_targets((targets[rows] - first_loc).float(), width)
        loss = loss.index_put((rows,), -(smooth * log_probability[rows, first_loc : first_loc + BINS]).sum(-1))
    weight = torch.where((targets >= first_seg) & (targets < first_seg + 128), 0.2, 1.0)
    return (loss * weight).sum() / weight.sum()
