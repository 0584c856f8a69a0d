"""transformers' results for a checkpoint folder: features, first-step logits and greedy tokens."""

from dataclasses import dataclass

import torch
from transformers import (
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PaliGemmaForConditionalGeneration,
)

import checkpoints as ck
import synthetic_tokenizer as tok

NEW_TOKENS = 24


class MaskPaddedRows(LogitsProcessor):
    """Rows past the tokenizer's last token are never chosen."""

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, ck.VOCABULARY :] = -torch.inf
        return scores


@dataclass
class Answer:
    """`steps` are the raw logits of each step [NEW_TOKENS, rows], `margins` those of the masked ones."""

    tokens: list[int]
    margins: list[float]
    steps: torch.Tensor


def load(folder):
    """The model as transformers loads it, in f32; fails when a tensor is missing or left over."""
    model, info = PaliGemmaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: names for kind, names in info.items() if names}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


def processor(folder):
    """transformers' processor of the checkpoint: image and text to the model's inputs."""
    return AutoProcessor.from_pretrained(folder)


def normalised(processor, pixels):
    """[1, 3, side, side] f32 from u8 [side, side, 3], by the checkpoint's own image processor."""
    values = processor(images=pixels, text="", return_tensors="pt")["pixel_values"]
    by_hand = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255.0 - 0.5) / 0.5
    assert torch.allclose(values[0], by_hand, atol=1e-6), "the image processor changed the picture"
    return values


def check_prompt_ids(processor, pixels, prompt, prompt_ids):
    """Fails if the processor's encoding of an ordinary prompt differs from the golden ids.

    A prompt that spells a special token is not ordinary: the processor turns it into that token.
    """
    if any(token in prompt for token in [*tok.SPECIAL, tok.IMAGE]):
        return
    ids = processor(images=pixels, text=prompt)["input_ids"][0]
    expected = [ck.IMAGE_ID] * processor.image_seq_length + prompt_ids
    assert list(ids) == expected, f"{prompt!r}: the processor gives {list(ids)}, not {expected}"


def features(model, pixel_values):
    """[image_tokens, text_hidden]: the projector's output, which enters the decoder unscaled."""
    return model.get_image_features(pixel_values).pooler_output[0]


def inputs(model, pixel_values, prompt_ids, suffix=()):
    """Arguments of the model's forward: image tokens and prompt are the prefix (0), `suffix` follows (1)."""
    image_tokens = model.config.text_config.num_image_tokens
    ids = [ck.IMAGE_ID] * image_tokens + list(prompt_ids) + list(suffix)
    types = [0] * (len(ids) - len(suffix)) + [1] * len(suffix)
    return {
        "input_ids": torch.tensor([ids]),
        "token_type_ids": torch.tensor([types]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "pixel_values": pixel_values,
    }


def _generate(model, arguments, use_cache):
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        output_scores=True,
        return_dict_in_generate=True,
    )
    model.generation_config.eos_token_id = None  # `generate` would fill the None above in from here
    out = model.generate(
        **arguments, generation_config=settings, logits_processor=LogitsProcessorList([MaskPaddedRows()])
    )
    return out.sequences[0, arguments["input_ids"].shape[1] :].tolist(), out.logits, out.scores


@torch.no_grad()
def answer(model, pixel_values, prompt_ids):
    """Greedy tokens with a KV cache; fails when they differ from those without one."""
    arguments = inputs(model, pixel_values, prompt_ids)
    tokens, logits, scores = _generate(model, arguments, use_cache=True)
    assert len(tokens) == NEW_TOKENS
    best = [s[0].topk(2).values for s in scores]
    margins = [float(b[0] - b[1]) for b in best]
    uncached, uncached_logits, _ = _generate(model, arguments, use_cache=False)
    assert tokens == uncached, f"with a cache {tokens}, without {uncached}"
    difference = max(relative(a, b) for a, b in zip(logits, uncached_logits))
    assert difference < 1e-4, f"logits with and without a cache differ by {difference}"
    return Answer(tokens, margins, torch.cat(logits))


@torch.no_grad()
def logits_at(model, arguments, position=-1, **more):
    """Raw logits [rows] at one position of one forward without a cache."""
    return model(**arguments, use_cache=False, **more).logits[0, position]


def relative(a, b):
    """‖a − b‖ / ‖b‖."""
    return float((a - b).norm() / b.norm())
