"""Measures how long a server takes to receive a photograph and to decode it.

    python3 tools/scaling/decoding.py
"""

import argparse
import asyncio
import io
import re
import urllib.request
from statistics import median

import aiohttp
import real
from PIL import Image, ImageFilter

SIZE, QUALITY = (1280, 960), 80


def photograph(seed):
    """A JPEG with as much detail as a photograph: smooth noise under fine noise."""
    coarse = Image.effect_noise((SIZE[0] // 40, SIZE[1] // 40), 120 + seed % 7).resize(SIZE, Image.BICUBIC)
    fine = Image.effect_noise(SIZE, 60).filter(ImageFilter.GaussianBlur(1))
    image = Image.merge("RGB", (coarse, Image.blend(coarse, fine, 0.3), fine))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def decoding_seconds(replica):
    """All time that the server has decoded."""
    text = urllib.request.urlopen(replica.address + "/metrics").read().decode()
    return float(re.search(r'paligemma_preparing_seconds_sum\{stage="decoding"\} (\S+)', text)[1])


async def measure(replica, repeats):
    sizes, seconds = [], []
    async with aiohttp.ClientSession() as client:
        for seed in range(repeats):
            file, before = photograph(seed), decoding_seconds(replica)
            await real.ask(client, replica.address, real.body([file], 1))
            sizes.append(len(file))
            seconds.append(decoding_seconds(replica) - before)
    return sizes, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=real.BINARY, help="the server [default: target/release/paligemma-server]")
    parser.add_argument("--repeats", type=int, default=40, help="photographs")
    parser.add_argument("--real-time", action="store_true", help="run before all other processes; needs root")
    args = parser.parse_args()
    if args.real_time:
        real.use_real_time(real.CLIENTS_PRIORITY)
    replica = real.Replica(args.binary, args.real_time)
    sizes, seconds = asyncio.run(measure(replica, args.repeats))
    replica.stop()
    width, height = SIZE
    print(f"JPEG of {width} × {height}, {median(sizes) / 1000:.0f} kB: decoded in {1000 * median(seconds):.1f} ms")


if __name__ == "__main__":
    main()
