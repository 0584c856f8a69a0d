"""Asks a checkpoint with transformers' own greedy decoding, in f32."""

from collections import defaultdict

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import PaliGemmaForConditionalGeneration

from masks import Masks
from scoring import Found, objects

BATCH = 64
MAX_TOKENS = 320  # six masks
SPECIAL = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>"}


class Folder:
    def __init__(self, folder, adapter=None):
        self.name = f"transformers on {folder}"
        self.model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter:
            from peft import PeftModel

            self.name += f" with {adapter}"
            self.model = PeftModel.from_pretrained(self.model, adapter).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.ids = {name: self.tokenizer.token_to_id(token) for name, token in SPECIAL.items()}
        self.masks = Masks(folder / "vae-oid.safetensors")
        vision = self.model.config.vision_config
        self.side = vision.image_size
        self.image_tokens = (vision.image_size // vision.patch_size) ** 2

    def answers(self, asked):
        """The answer to each (picture, prompt): a text, or what was found."""
        by_length = defaultdict(list)
        for index, (_, prompt) in enumerate(asked):
            ids = [self.model.config.image_token_id] * self.image_tokens + [self.ids["bos"]]
            ids += self.tokenizer.encode(prompt.text + "\n", add_special_tokens=False).ids
            # Masks take several times as many tokens as anything else.
            by_length[len(ids), prompt.measure == "masks"].append((index, ids))
        answers = [None] * len(asked)
        for rows in by_length.values():
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                texts = self._generate([asked[i][0] for i, _ in part], [ids for _, ids in part])
                for (index, _), text in zip(part, texts):
                    answers[index] = self._read(*asked[index], text)
        return answers

    def _read(self, image, prompt, text):
        if prompt.measure not in ("boxes", "masks"):
            return text
        found = []
        for label, box, codes in objects(text):
            if prompt.measure == "boxes":
                found.append(Found(label, box))
            elif codes:
                found.append(Found(label, box, mask=self.masks.whole(box, codes, *image.size)))
        return found

    def _generate(self, images, ids):
        side = (self.side, self.side)
        squares = np.stack([np.asarray(i.convert("RGB").resize(side, Image.Resampling.BICUBIC)) for i in images])
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 127.5 - 1
        ids = torch.tensor(ids)
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids,
                pixel_values=pixels,
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
            )
        ends = {self.ids["eos"], self.ids["pad"]}
        rows = [[token for token in row if token not in ends] for row in out[:, ids.shape[1] :].tolist()]
        return [self.tokenizer.decode(row, skip_special_tokens=False) for row in rows]
