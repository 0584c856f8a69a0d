"""Answers prompts about pictures through a running server or with transformers."""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration

import tokenizer as vocabulary
from data import pixels

MAX_TOKENS = 128


class Server:
    """`POST /v1/generate` of a running server."""

    CLIENTS = 8
    TRIES = 60  # at a queue that is full, one a second

    def __init__(self, address):
        self.name = address
        self.address = address.rstrip("/")

    def answers(self, asked):
        """The answer to each (PIL picture, prompt)."""
        with ThreadPoolExecutor(self.CLIENTS) as pool:
            return list(pool.map(lambda one: self._answer(*one), asked))

    def _answer(self, image, prompt):
        png = io.BytesIO()
        image.save(png, "PNG")
        body = {"image": base64.b64encode(png.getvalue()).decode(), "prompt": prompt, "max_tokens": MAX_TOKENS}
        request = urllib.request.Request(
            self.address + "/v1/generate", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for _ in range(self.TRIES):
            try:
                with urllib.request.urlopen(request) as response:
                    return json.load(response)["results"][0]["text"]
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise SystemExit(f"{prompt!r}: {error.code} {error.read().decode()}") from error
                time.sleep(1)
        raise SystemExit(f"{prompt!r}: the server's queue stayed full for {self.TRIES} s")


class Folder:
    """A checkpoint in f32 with transformers' own greedy decoding."""

    BATCH = 64

    def __init__(self, folder, adapter=None):
        self.name = f"transformers on {folder}"
        self.model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter:
            self.name += f" with {adapter}"
            self.model = PeftModel.from_pretrained(self.model, adapter).eval()
        self.tokenizer = vocabulary.Tokenizer.from_file(str(folder / "tokenizer.json"))
        vision = self.model.config.vision_config
        self.side = vision.image_size
        self.image_tokens = (vision.image_size // vision.patch_size) ** 2

    def answers(self, asked):
        """The answer to each (PIL picture, prompt)."""
        by_length = defaultdict(list)
        for index, (_, prompt) in enumerate(asked):
            ids = [self.model.config.image_token_id] * self.image_tokens + [vocabulary.BOS_ID]
            ids += self.tokenizer.encode(prompt + "\n", add_special_tokens=False).ids
            by_length[len(ids)].append((index, ids))
        answers = [""] * len(asked)
        for rows in by_length.values():
            for start in range(0, len(rows), self.BATCH):
                part = rows[start : start + self.BATCH]
                texts = self._generate([asked[i][0] for i, _ in part], [ids for _, ids in part])
                for (index, _), text in zip(part, texts):
                    answers[index] = text
        return answers

    def _generate(self, images, ids):
        side = (self.side, self.side)
        squashed = [np.asarray(image.convert("RGB").resize(side, Image.Resampling.BICUBIC)) for image in images]
        ids = torch.tensor(ids)
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids,
                pixel_values=pixels(torch.from_numpy(np.stack(squashed))),
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
            )
        ends = {vocabulary.EOS_ID, vocabulary.PAD_ID}
        rows = [[t for t in row if t not in ends] for row in out[:, ids.shape[1] :].tolist()]
        return [self.tokenizer.decode(row, skip_special_tokens=False) for row in rows]
