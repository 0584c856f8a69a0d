"""The training's steps, drawn in the order of their numbers, by processes of their own if there are any."""

from dataclasses import dataclass, fields, is_dataclass, replace

import torch
from torch.utils.data import DataLoader, Dataset

from data import Batches, Dense, Packed

GROUPS, GROUPED = 3, 4  # of prompts of about one length, and how many of them a picture has in the last part
ROW = 384  # tokens of one picture's packed prompts
VISION, PACKED, GROUPED_PROMPTS = "vision", "packed", "grouped"  # what a step's pictures are drawn for


@dataclass
class Step:
    images: torch.Tensor  # uint8 [n, height, width, 3]
    dense: Dense
    packed: Packed | None = None
    groups: list | None = None  # of Prompts


def moved(value, device):
    """A tensor, or all tensors in a list or dataclass, on a device."""
    if torch.is_tensor(value):
        return value.to(device, non_blocking=True)
    if is_dataclass(value):
        return replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value)})
    return [moved(v, device) for v in value] if isinstance(value, list) else value


class _Steps(Dataset):
    def __init__(self, batches: Batches, purpose):
        self.batches, self.purpose = batches, purpose

    def __getitem__(self, index):
        drawn = self.batches.scenes(index)
        step = Step(*self.batches.pictures(drawn))
        if self.purpose == PACKED:
            step.packed = self.batches.packed(drawn, index, ROW)
        elif self.purpose == GROUPED_PROMPTS:
            step.groups = self.batches.groups(drawn, index, GROUPS, GROUPED)
        return step


def _one_thread(_):
    torch.set_num_threads(1)


def steps(batches, purpose, numbers, workers):
    """The steps of `numbers`, an endless sequence; `workers` processes draw ahead, 0 draws when asked."""
    return DataLoader(
        _Steps(batches, purpose), None, sampler=numbers, num_workers=workers, worker_init_fn=_one_thread
    )
