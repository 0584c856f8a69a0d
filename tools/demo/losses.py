"""What the two stages of training minimise."""

import torch
from torch import nn
from torch.nn import functional as F

from data import CLASSES
from tasks import BINS


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
        self.corners = nn.Linear(width, 4 * width)
        for layer in (self.classes, self.corners):
            nn.init.normal_(layer.weight, 0, width**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, features, labels, boxes, loc_embedding, width):
        """The loss and its parts; `features` f32 [n, patches, hidden], `width` of the loc targets in bins."""
        parts = {}
        for i, logits in enumerate(self.classes(features).split(list(CLASSES.values()), -1)):
            parts[list(CLASSES)[i]] = F.cross_entropy(logits.flatten(0, 1), labels[..., i].flatten())
        inside = labels[..., 0] > 0
        corners = self.corners(features[inside]).unflatten(-1, (4, -1)).flatten(0, 1)
        corners = F.rms_norm(corners, corners.shape[-1:])
        logits = corners @ loc_embedding.t()
        bins = boxes[inside].flatten() * (BINS - 1)
        parts["box"] = -(gaussian_targets(bins, width) * logits.log_softmax(-1)).sum(-1).mean()
        parts["box_error"] = (logits.argmax(-1) - bins).abs().mean().detach()
        return sum(loss for name, loss in parts.items() if name != "box_error"), parts


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
