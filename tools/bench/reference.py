"""transformers on the same checkpoint, in a process of its own that answers line by line.

Class `Reference` starts this file as a program. All pictures of a run are one batch: the most that transformers can do
for several requests that arrive together. Its time starts with ready pixels and token ids. "bf16-static" is bf16 with a
static cache and a decode step that `torch.compile` compiles.
"""

import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import process

# Names of dtypes in torch, and bytes per weight.
DTYPES = {"bf16": ("bfloat16", 2), "f32": ("float32", 4)}
STATIC = "-static"
CHOICES = {dtype + cache for dtype in DTYPES for cache in ("", STATIC)}


class Reference:
    """transformers in one dtype, loaded with one checkpoint."""

    def __init__(self, args, choice, side):
        self.name, self.counts = f"transformers {choice}", args.reference_concurrency
        name, size = DTYPES[choice.removesuffix(STATIC)]
        self.static = choice.endswith(STATIC)
        self._check_memory(args, size)
        started = time.perf_counter()
        command = [sys.executable, __file__, args.checkpoint, args.device, name, str(side), str(self.static)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._read()
        self.ready_seconds = time.perf_counter() - started
        self.memory_ready = process.memory(self.process.pid)

    def warm(self, tokens):
        """Answers once, or once for each number of pictures where each is compiled by itself."""
        for count, length in [(count, tokens) for count in self.counts] if self.static else [(1, 2)]:
            self.run(0, count, length)

    def takes(self, count):
        """Whether batches of so many are measured."""
        return count in self.counts

    def _check_memory(self, args, size):
        # Checkpoints are stored in 16 bits; a GiB holds the rest.
        stored = sum(file.stat().st_size for file in Path(args.checkpoint).glob("*.safetensors"))
        needed, free = stored // 2 * size + 2**30, process.available()
        if args.device == "cpu" and needed > free:
            raise SystemExit(
                f"{self.name} needs about {needed / 2**30:.0f} GiB beside what is loaded, and {free / 2**30:.0f} GiB of"
                " memory are free: measure it in another run, with --reference"
            )

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def run(self, seed, count, tokens):
        """Answers so many pictures as one batch; each answer's times in seconds since the start."""
        self.process.stdin.write(json.dumps([seed, count, tokens]) + "\n")
        self.process.stdin.flush()
        return [{"times": self._read()}] * count

    def describe(self):
        memory = {"ready": self.memory_ready, "end": process.memory(self.process.pid)}
        return {"kind": "reference", **self.versions, "ready_seconds": self.ready_seconds, "memory": memory}

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def answer_lines(checkpoint, device, dtype, side, static):
    import numpy as np
    import tokenizers
    import torch
    import transformers

    import pictures

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    # PaliGemma does not use this head of SigLIP; where the file does not say so, it would be computed in vain.
    config.vision_config.vision_use_head = False
    load = transformers.PaliGemmaForConditionalGeneration.from_pretrained
    model = load(checkpoint, config=config, dtype=getattr(torch, dtype)).to(device).eval()
    tokenizer = tokenizers.Tokenizer.from_file(f"{checkpoint}/tokenizer.json")
    ids = [tokenizer.token_to_id("<bos>"), *tokenizer.encode(pictures.PROMPT + "\n", add_special_tokens=False).ids]
    ids = [model.config.image_token_id] * (side // model.config.vision_config.patch_size) ** 2 + ids

    # What carries keys and values from step to step has another name in older releases.
    has_cache = "cache" in inspect.signature(model.forward).parameters
    cache_argument = "cache" if has_cache else "past_key_values"
    caches = {}

    def static_cache(count, length):
        """The same memory for answers of one size: what was compiled and recorded goes on using it."""
        cache = caches.get((count, length))
        if cache is None:
            text = model.config.get_text_config()
            cache = caches[count, length] = transformers.StaticCache(config=text, max_cache_len=length)
        cache.reset()
        return cache

    decode = torch.compile(model.forward, mode="reduce-overhead", dynamic=False) if static else model

    @torch.no_grad()
    def generate(seed, count, tokens):
        pixels = np.stack([np.asarray(picture) for picture in pictures.noise(side, seed, count)])
        pixels = torch.tensor(pixels.transpose(0, 3, 1, 2) / 127.5 - 1, dtype=model.dtype, device=device)
        inputs = torch.tensor([ids] * count, device=device)
        begin = {cache_argument: static_cache(count, len(ids) + tokens)} if static else {}
        started, times = time.perf_counter(), []
        types = torch.zeros_like(inputs)
        output = model(input_ids=inputs, pixel_values=pixels, token_type_ids=types, logits_to_keep=1, **begin)
        while True:
            token = output.logits[:, -1].argmax(-1, keepdim=True)
            token.cpu()
            times.append(time.perf_counter() - started)
            if len(times) == tokens:
                return times
            torch.compiler.cudagraph_mark_step_begin()
            output = decode(input_ids=token, **{cache_argument: getattr(output, cache_argument)})

    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        print(json.dumps(generate(*json.loads(line))), flush=True)


if __name__ == "__main__":
    checkpoint, device, dtype, side, static = sys.argv[1:]
    answer_lines(checkpoint, device, dtype, int(side), static == "True")
