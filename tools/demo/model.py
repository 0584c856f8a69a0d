"""The demo's PaliGemma: transformers' own classes with few, narrow layers."""

import math

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import AttentionInterface, PaliGemmaConfig, PaliGemmaForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

import tokenizer as vocabulary

IMAGE_SIZE, PATCH = 192, 16
GRID = IMAGE_SIZE // PATCH
IMAGE_TOKENS = GRID * GRID

VISION = {"hidden_size": 128, "num_hidden_layers": 9, "num_attention_heads": 4, "intermediate_size": 512}
TEXT = {
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 512,
}


def config(tokenizer):
    image_id = tokenizer.token_to_id(vocabulary.IMAGE)
    return PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "vision_use_head": False,
            "projection_dim": TEXT["hidden_size"],
            "num_image_tokens": IMAGE_TOKENS,
            **VISION,
        },
        text_config={
            "model_type": "gemma",
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": 512,
            "num_image_tokens": IMAGE_TOKENS,
            "hidden_activation": "gelu_pytorch_tanh",
            "pad_token_id": vocabulary.PAD_ID,
            "bos_token_id": vocabulary.BOS_ID,
            "eos_token_id": vocabulary.EOS_ID,
            **TEXT,
        },
        vocab_size=tokenizer.get_vocab_size(),
        image_token_index=image_id,
        image_token_id=image_id,
        projection_dim=TEXT["hidden_size"],
        hidden_size=TEXT["hidden_size"],
        pad_token_id=vocabulary.PAD_ID,
        bos_token_id=vocabulary.BOS_ID,
        eos_token_id=vocabulary.EOS_ID,
    )


def smooth_curves(count, width):
    """`count` points along smooth curves in `width` dimensions, each point of length about 1.

    Pairs of cosine and sine over the bins, from half a turn to 32 turns; slow ones are the strongest, so a
    neighbour in space is a neighbour in the embedding.
    """
    position = torch.arange(count) / count
    turns = torch.logspace(math.log10(0.5), math.log10(32), width // 2)
    angle = 2 * math.pi * position[:, None] * turns
    strength = turns**-0.35
    strength = strength / strength.square().sum().sqrt()
    return torch.cat([angle.cos() * strength, angle.sin() * strength], 1)


def patch_positions(width):
    """[patches, width]: cosine and sine of a patch's row and column, from a quarter of a turn to three turns.

    A step to a neighbour is then the same rotation everywhere, so attention need not learn it patch by patch.
    """
    turns = torch.linspace(0.25, 3, width // 4)
    angle = 2 * math.pi * ((torch.arange(GRID) + 0.5) / GRID)[:, None] * turns
    axis = torch.cat([angle.cos(), angle.sin()], 1)
    rows, columns = axis[:, None].expand(-1, GRID, -1), axis[None].expand(GRID, -1, -1)
    return torch.cat([rows, columns], -1).reshape(IMAGE_TOKENS, width)


def initialise(model, tokenizer, generator):
    """Weights of standard deviation 1/sqrt(fan-in); positions of patches and `<loc>` tokens along smooth curves."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2 and "embed" not in name:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
        vision = model.model.vision_tower.embeddings
        vision.patch_embedding.weight.normal_(0, vision.patch_embedding.weight[0].numel() ** -0.5, generator=generator)
        vision.position_embedding.weight.copy_(0.7 * patch_positions(VISION["hidden_size"]))
        embedding = model.model.language_model.embed_tokens.weight
        width = embedding.shape[1]
        embedding.normal_(0, width**-0.5, generator=generator)
        first = tokenizer.token_to_id("<loc0000>")
        # A random rotation, so that the curves share no axis with anything else.
        rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
        embedding[first : first + 1024] = smooth_curves(1024, width) @ rotation


def build(seed=0):
    """The untrained model and its tokenizer."""
    tokenizer = vocabulary.load()
    model = PaliGemmaForConditionalGeneration(config(tokenizer))
    initialise(model, tokenizer, torch.Generator().manual_seed(seed))
    return model, tokenizer


def _ends_branch(name):
    """Whether a weight ends a branch beside the residual stream: at zero, its layer changes nothing."""
    return name.endswith(("out_proj.weight", "fc2.weight", "o_proj.weight", "down_proj.weight"))


def _stretched(positions):
    """Positions of another grid of patches, [patches, width], for this one."""
    side = round(len(positions) ** 0.5)
    plane = positions.t().reshape(1, -1, side, side)
    return F.interpolate(plane, (GRID, GRID), mode="bicubic", align_corners=False).flatten(2)[0].t()


def take_over(model, tokenizer, folder):
    """Begins with the weights of another checkpoint of this width, whatever its input size, depth and vocabulary.

    Layers that it lacks begin without an effect, and tokens are found by their text.
    """
    weights = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).state_dict()
    before = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            found = weights.get(name)
            if name.endswith(("embed_tokens.weight", "lm_head.weight")):
                pairs = [(row, before[token]) for token, row in tokenizer.get_vocab().items() if token in before]
                rows, old = torch.tensor(pairs).t()
                weight[rows] = found[old]
            elif name.endswith("position_embedding.weight"):
                weight.copy_(_stretched(found))
            elif found is not None:
                weight.copy_(found)
            elif _ends_branch(name):
                weight.zero_()


def prefix_lm_mask(prefix, length):
    """bool [batch, 1, length, length]: all see the first `prefix` [batch] tokens, and what came before them."""
    position = torch.arange(length, device=prefix.device)
    causal = position[None, :] <= position[:, None]
    return (causal[None] | (position[None, None, :] < prefix[:, None, None]))[:, None]


def packed_mask(segment, is_prompt):
    """The mask of a picture followed by several prompts with their answers, none of which sees another.

    `segment` [batch, length] numbers the prompts from 1, `is_prompt` [batch, length] is false on answers; both
    without the image tokens. Each prompt sees the picture; the picture sees the first prompt alone, which is thus
    trained as `prefix_lm_mask` has it.
    """
    image = segment.new_zeros(len(segment), IMAGE_TOKENS)
    segment, is_prompt = torch.cat([image, segment], 1), torch.cat([image == 0, is_prompt], 1)
    position = torch.arange(segment.shape[1], device=segment.device)
    causal = position[None, :] <= position[:, None]
    same = segment[:, :, None] == segment[:, None, :]
    first = (segment[:, :, None] == 0) & ((segment == 1) & is_prompt)[:, None, :]
    return ((same & (causal[None] | is_prompt[:, None, :])) | (segment[:, None, :] == 0) | first)[:, None]


def hidden_states(model, features, ids, mask, position=None):
    """The language model's last states of the text, [batch, length, hidden].

    `features` [batch, image tokens, hidden] are the projected image, `ids` [batch, length] the text from
    `<bos>` on, `position` [batch, length] its positions if they don't simply continue the image's.
    """
    language = model.model.language_model
    embeds = torch.cat([features, language.embed_tokens(ids).to(features.dtype)], 1)
    places = torch.arange(1, embeds.shape[1] + 1, device=ids.device)[None]
    if position is not None:
        places = torch.cat([places[:, :IMAGE_TOKENS].expand(len(ids), -1), position], 1)
    states = language(inputs_embeds=embeds, attention_mask=mask, position_ids=places, use_cache=False)
    return states.last_hidden_state[:, IMAGE_TOKENS:]


def autocast(model):
    """Matrices multiply in bf16 on the model's device."""
    return torch.autocast(model.device.type, torch.bfloat16)


def image_features(model, pixels):
    """[n, image tokens, hidden] of pixels [n, 3, side, side]."""
    return model.model.multi_modal_projector(model.model.vision_tower(pixels).last_hidden_state)


def _attention_in_f32(module, query, key, value, attention_mask, **kwargs):
    """PyTorch's attention in f32 between bf16 layers: its bf16 backward pass is slow on the CPU."""
    dtype = query.dtype
    with torch.autocast("cpu", enabled=False):
        out, weights = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **kwargs
        )
    return out.to(dtype), weights


AttentionInterface.register("sdpa_f32", _attention_in_f32)
AttentionMaskInterface.register("sdpa_f32", sdpa_mask)
