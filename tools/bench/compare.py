"""Compares the speed of paligemma-server with Hugging Face transformers on the same checkpoint.

Both answer the same prompt about the same new pictures on the same machine, one after the other: the server over HTTP
as a client sees it, transformers in this process. Prints medians with quartiles of the time to the first token and the
time between tokens, for a single request and for several at once, and the ratio.

    python tools/bench/compare.py --checkpoint DIR --binary target/release/paligemma-server
"""

import argparse
import base64
import http.client
import io
import json
import socket
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

PROMPT = "answer en where is the cow standing?"
PATIENCE = 600  # seconds for one answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--binary", default="target/release/paligemma-server")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="auto", help="of the server")
    parser.add_argument("--reference-dtype", default="bfloat16", help="of transformers")
    parser.add_argument("--clients", type=int, default=8, help="requests at once in the second measurement")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-reference", action="store_true")
    args = parser.parse_args()

    side = json.load(open(f"{args.checkpoint}/config.json"))["vision_config"].get("image_size", 224)
    rows = {"paligemma-server": measure_server(args, side)}
    if not args.skip_reference:
        rows["transformers"] = measure_transformers(args, side)
    report(args, rows)


def pictures(side, seed, count):
    """New pictures, so that no cache of image features can help."""
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def measure_server(args, side):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [args.binary, "serve", "--model", args.checkpoint, "--port", str(port)]
    command += ["--device", args.device, "--dtype", args.dtype, "--slots", str(args.clients), "--log-level", "warn"]
    # Let the slower side finish, too.
    command += ["--request-timeout", f"{PATIENCE}s"]
    server = subprocess.Popen(command)
    try:
        started = time.perf_counter()
        while not is_ready(port):
            if server.poll() is not None:
                raise SystemExit(f"{args.binary} ended with {server.returncode} while it loaded")
            time.sleep(0.1)
        print(f"the server was ready after {time.perf_counter() - started:.1f} s; {memory(server.pid)}")
        ask_together(args, port, pictures(side, 999, 1))
        figures = {
            clients: [ask_together(args, port, pictures(side, 1000 * clients + r, clients)) for r in range(args.repeats)]
            for clients in (1, args.clients)
        }
        print(f"after the measurement: {memory(server.pid)}")
        return figures
    finally:
        server.terminate()
        server.wait()


def is_ready(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


def memory(pid):
    lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status") if ":" in line)
    now, peak = (int(lines[key].split()[0]) / 2**20 for key in ("VmRSS", "VmHWM"))
    return f"resident {now:.2f} GiB, at most {peak:.2f} GiB so far ({peak / now:.2f} times)"


def ask_together(args, port, images):
    """One request per image, all at once. Returns (seconds to first token, seconds between tokens) of each."""

    def ask(image):
        file = io.BytesIO()
        image.save(file, "PNG")
        body = {
            "image": base64.b64encode(file.getvalue()).decode(),
            "prompt": PROMPT,
            "max_tokens": args.tokens,
            "stream": True,
            "logprobs": 0,
        }
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        started = time.perf_counter()
        connection.request("POST", "/v1/generate", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"the server answered {response.status}: {response.read().decode()}")
        times = []
        for line in response:
            if line.startswith(b"event: delta"):
                times.append(time.perf_counter())
            elif line.startswith(b"event: error"):
                raise SystemExit(f"the stream broke after {len(times)} tokens: {next(response).decode()}")
        if len(times) < args.tokens // 2:
            raise SystemExit(f"only {len(times)} tokens arrived")
        return times[0] - started, (times[-1] - times[0]) / (len(times) - 1)

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(ask, images))


def measure_transformers(args, side):
    import tokenizers
    import torch
    import transformers

    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
        args.checkpoint, dtype=getattr(torch, args.reference_dtype)
    ).to(args.device).eval()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    tokenizer = tokenizers.Tokenizer.from_file(f"{args.checkpoint}/tokenizer.json")
    ids = [tokenizer.token_to_id("<bos>"), *tokenizer.encode(PROMPT + "\n", add_special_tokens=False).ids]
    image_tokens = (side // model.config.vision_config.patch_size) ** 2
    ids = [model.config.image_token_id] * image_tokens + ids

    @torch.inference_mode()
    def generate(images):
        pixels = np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2)
        pixels = torch.tensor(pixels / 127.5 - 1, dtype=model.dtype, device=args.device)
        inputs = torch.tensor([ids] * len(images), device=args.device)
        started = time.perf_counter()
        output = model(
            input_ids=inputs, pixel_values=pixels, token_type_ids=torch.zeros_like(inputs), logits_to_keep=1
        )
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        token.cpu()
        first = time.perf_counter()
        for _ in range(args.tokens - 1):
            output = model(input_ids=token, past_key_values=output.past_key_values)
            token = output.logits[:, -1].argmax(-1, keepdim=True)
            token.cpu()
        return [(first - started, (time.perf_counter() - first) / (args.tokens - 1))] * len(images)

    generate(pictures(side, 999, 1))
    return {
        clients: [generate(pictures(side, 1000 * clients + r, clients)) for r in range(args.repeats)]
        for clients in (1, args.clients)
    }


def report(args, rows):
    print(f"\n{args.checkpoint}, {args.device}: medians of {args.repeats} runs (quartiles), {args.tokens} tokens each\n")
    print("| | requests at once | time to first token, s | time between tokens, ms |")
    print("|---|---|---|---|")
    medians = {}
    for name, figures in rows.items():
        for clients, runs in figures.items():
            first, gap = ([figure[i] for run in runs for figure in run] for i in (0, 1))
            medians[name, clients] = statistics.median(first), statistics.median(gap)
            gap = [1000 * value for value in gap]
            print(f"| {name} | {clients} | {spread(first)} | {spread(gap)} |")
    if len(rows) == 2:
        for clients in rows["transformers"]:
            ours, theirs = medians["paligemma-server", clients], medians["transformers", clients]
            ratios = " | ".join(f"{theirs[i] / ours[i]:.2f} ×" for i in (0, 1))
            print(f"| transformers ÷ paligemma-server | {clients} | {ratios} |")


def spread(values):
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


if __name__ == "__main__":
    main()
