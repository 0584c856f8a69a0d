"""The score that selects the best model in training: quick, and on scenes that are never trained on.

The model gets the true answer and predicts each next token. If all predictions are right, greedy decoding gives
that answer too; for boxes, this is close to what evaluate.py measures through the server.
"""

from collections import defaultdict

import torch

import model as paligemma
from data import VALIDATION, Batches, pixels
from drawing import moved
from tasks import BINS

PROMPTS = 6
SCORED = ["captions", "question", "iou", "detect", "ocr"]


def box_ious(first, second):
    """IoU of boxes [n, 4] as y0, x0, y1, x1; a box without area has none."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (first, second)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-6)


def _guesses(model, features, group):
    with paligemma.autocast(model):
        mask = paligemma.prefix_lm_mask(group.prefix, paligemma.IMAGE_TOKENS + group.ids.shape[1])
        states = paligemma.hidden_states(model, features[group.image], group.ids, mask)
        return (states @ model.lm_head.weight.t()).argmax(-1)


@torch.no_grad()
def validate(model, tokenizer, mask_codes, images):
    """Shares of right answers by task, the mean IoU of boxes, and their mean as `score`."""
    model.eval()
    batches = Batches(tokenizer, mask_codes, VALIDATION, images, PROMPTS)
    drawn = batches.scenes(0)
    images, _ = batches.pictures(drawn)
    with paligemma.autocast(model):
        features = paligemma.image_features(model, pixels(images.to(model.device)))
    first_loc = tokenizer.token_to_id("<loc0000>")
    right, ious = defaultdict(list), []
    for group in batches.groups(drawn, 0, 12, PROMPTS):
        group = moved(group, model.device)
        for guess, target, name in zip(_guesses(model, features, group), group.targets, group.names):
            guess, target = guess[target >= 0], target[target >= 0]
            is_loc = (target >= first_loc) & (target < first_loc + BINS)
            right[name].append(bool((guess == target)[~is_loc].all()))
            if is_loc.any():
                corners = (torch.stack([guess[is_loc], target[is_loc]]) - first_loc).float().unflatten(1, (-1, 4))
                ious += box_ious(*corners).tolist()
    model.train()
    scores = {name: sum(v) / len(v) for name, v in sorted(right.items())}
    captions = [v for name in ("caption_short", "caption", "describe") for v in right[name]]
    scores["captions"] = sum(captions) / len(captions)
    scores["iou"] = sum(ious) / len(ious)
    scores["score"] = sum(scores[name] for name in SCORED) / len(SCORED)
    return {name: round(value, 4) for name, value in scores.items()}
