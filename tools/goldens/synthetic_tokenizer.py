"""A small tokenizer with PaliGemma's layout, and the variants of it that exist in the wild.

BPE with byte fallback; spaces become "▁"; ids in Gemma's order: special tokens, unused ones, runs of
newlines, the 256 bytes, pieces, then the 1024 `<loc>` and 128 `<seg>` tokens, and `<image>` last.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
UNUSED = [f"<unused{i}>" for i in range(20)]
NEWLINES = ["\n" * n for n in range(1, 9)]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
LOC = [f"<loc{i:04}>" for i in range(1024)]
SEG = [f"<seg{i:03}>" for i in range(128)]
IMAGE = "<image>"
PAD_ID, EOS_ID, BOS_ID = 0, 1, 2

# How a tokenizer.json may declare `<loc>` and `<seg>`.
ADDED = "added"  # as ordinary added tokens: the form that makes the golden ids
VOCAB_ONLY = "vocab_only"  # in the BPE vocabulary alone, where no merge reaches them
ADDED_SPECIAL = "special"  # as special tokens, which a decode without special tokens drops

CORPUS = """caption en. describe en. answer en what is in the image? how many cats are there?
detect cat ; dog ; person ; a red car. segment the white cat ; the wooden table.
A black cat sits on the table next to a plate of food. The dog is on the beach with a ball.
Two people are standing near a large building under a blue sky with white clouds.
What colour is the circle? The circle is red, the square is green and the triangle is yellow.
In this image we can see a street with cars, trees, lights, a bus and people walking on the road.
There is a picture of the mountain on the wall. Is the woman wearing a hat? yes no. left right top bottom
where are they going? reading the sign text: STOP, EXIT, OPEN 24 hours. It costs 3.50 and 12 more.
one two three four five six seven eight nine ten. small big round long short old young
être naïve café crème, schöne Grüße über München, el niño pequeño, красный кот, 東京の猫, 画像, 図
ocr. question en the. image of something that looks like an animal in the water at night
"""
PRINTABLE_ASCII = "".join(chr(c) for c in range(33, 127))


def _pieces():
    """Pieces and merges learnt from CORPUS; words keep their leading "▁", as in Gemma."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Split(Regex(r"[0-9\n]"), "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=560,
        initial_alphabet=sorted(PRINTABLE_ASCII + "▁"),
        show_progress=False,
    )
    lines = [line for line in CORPUS.splitlines() for _ in range(3)]
    learner.train_from_iterator(lines, trainer)
    model = json.loads(learner.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    multi = [p for p in pieces if len(p) > 1]
    single = [p for p in pieces if len(p) == 1]
    spaces = [("▁", "▁"), ("▁▁", "▁▁")]
    return ["▁▁", "▁▁▁▁"] + multi + single, spaces + [tuple(m) for m in model["merges"]]


def _added(content, token_id, special, normalized):
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": token_id, "content": content, **flags, "normalized": normalized, "special": special}


def build(locations=ADDED):
    """The tokenizer as the dict of its tokenizer.json."""
    pieces, merges = _pieces()
    order = SPECIAL + UNUSED + NEWLINES + BYTES + pieces + LOC + SEG + [IMAGE]
    ids = {token: i for i, token in enumerate(order)}
    assert len(ids) == len(order), "a token appears twice"
    added = [_added(t, ids[t], True, False) for t in SPECIAL]
    added += [_added(t, ids[t], False, False) for t in UNUSED + NEWLINES]
    if locations != VOCAB_ONLY:
        special = locations == ADDED_SPECIAL
        added += [_added(t, ids[t], special, not special) for t in LOC + SEG]
    added.append(_added(IMAGE, ids[IMAGE], True, False))
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


def reference():
    """The tokenizer that golden ids and texts come from. Special tokens in a text stay text."""
    tokenizer = Tokenizer.from_str(json.dumps(build(ADDED)))
    tokenizer.encode_special_tokens = True
    return tokenizer


def prompt_ids(tokenizer, prompt):
    """`<bos>`, then the prompt and its newline encoded as one string."""
    return [BOS_ID] + tokenizer.encode(prompt + "\n", add_special_tokens=False).ids


def write(folder: Path, locations):
    """Writes tokenizer.json and tokenizer_config.json."""
    text = json.dumps(build(locations), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "extra_special_tokens": {"image_token": IMAGE},
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<pad>",
        "processor_class": "PaliGemmaProcessor",
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
