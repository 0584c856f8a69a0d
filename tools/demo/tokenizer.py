"""The demo's tokenizer: PaliGemma's layout with a small vocabulary.

BPE with byte fallback; spaces become "▁"; special tokens, unused ones, runs of newlines, the 256 bytes,
pieces, then the 1024 `<loc>` and 128 `<seg>` tokens, and `<image>` last.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tasks import corpus

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
PAD_ID, EOS_ID, BOS_ID = 0, 1, 2
NEWLINES = ["\n", "\n\n"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
LOC = [f"<loc{i:04}>" for i in range(1024)]
SEG = [f"<seg{i:03}>" for i in range(128)]
IMAGE = "<image>"
CHARACTERS = [chr(c) for c in range(33, 127)] + ["▁"]


def _words():
    """Each word with and without the "▁" of a space before it."""
    text = " ".join(corpus())
    for mark in "?,;":
        text = text.replace(mark, f" {mark} ")
    words = sorted(set(text.split()))
    return words + ["▁" + word for word in words]


def _pieces():
    """Pieces and merges, learnt until every word is one piece."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=10_000, initial_alphabet=CHARACTERS, show_progress=False)
    learner.train_from_iterator(_words(), trainer)
    model = json.loads(learner.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [tuple(m) for m in model["merges"]]


def _added(content, token_id, special):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token_id, "content": content, **flags, "special": special}


def build():
    """The tokenizer as the dict of its tokenizer.json."""
    pieces, merges = _pieces()
    order = SPECIAL + NEWLINES + BYTES + pieces + LOC + SEG + [IMAGE]
    ids = {token: i for i, token in enumerate(order)}
    assert len(ids) == len(order), "a token appears twice"
    added = [_added(t, ids[t], True) for t in SPECIAL]
    added += [_added(t, ids[t], False) for t in NEWLINES + LOC + SEG]
    added.append(_added(IMAGE, ids[IMAGE], True))
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, bos, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [BOS_ID], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [list(m) for m in merges],
        },
    }


def spelled(tokenizer, text):
    """Ids of a text letter by letter: what the model writes when it reads one, as it can't know whole words."""
    return [tokenizer.token_to_id("▁" if c == " " else c) for c in text]


def load():
    return Tokenizer.from_str(json.dumps(build()))


def write(folder: Path):
    """Writes tokenizer.json and tokenizer_config.json."""
    text = json.dumps(build(), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "extra_special_tokens": {"image_token": IMAGE},
        "model_max_length": 512,
        "pad_token": "<pad>",
        "processor_class": "PaliGemmaProcessor",
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
