"""Makes tests/goldens/pixels with Pillow: odd images, and what they look like resized.

    pip install pillow numpy blake3
    python tools/goldens/make_pixel_goldens.py tests/goldens/pixels

Writes `images/`, one file for each format and mode; `refused/`, variants that are not read; `expected/`, the RGB
pixels of `images/` at side 56; and `manifest.json`, which lists them, with the BLAKE3 of the pixels at every side in
SIDES.
The largest inputs are not stored: `pattern` is an integer formula that the test repeats.
"""

import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from blake3 import blake3
from PIL import Image, ImageOps

SIDES = (56, 224, 448)
STORED_SIDE = 56
PATTERNS = [(1, 1), (2, 3), (3000, 2), (2, 3000), (57, 55), (224, 224), (224, 100), (100, 224), (448, 56),
            (225, 223), (641, 479), (479, 641), (60, 61), (60, 65), (40, 300), (1000, 1), (3000, 4000), (4000, 3000)]


def pattern(width, height):
    """Slopes, edges and noise, in 32-bit integers only."""
    y, x, c = np.meshgrid(np.arange(height, dtype=np.uint32), np.arange(width, dtype=np.uint32),
                          np.arange(3, dtype=np.uint32), indexing="ij", sparse=True)
    noise = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (c * np.uint32(83492791))
    noise = (noise ^ (noise >> np.uint32(13))) * np.uint32(0x5BD1E995)
    noise = (noise >> np.uint32(15)) & np.uint32(31)
    slopes = x * (c + 1) * np.uint32(97) // np.uint32(width) + y * (3 - c) * np.uint32(89) // np.uint32(height)
    blocks = (((x // 37) ^ (y // 23)) & 1) * np.uint32(80)
    return (slopes + blocks + noise).astype(np.uint8)


def photo(width, height):
    """Something photo-like: soft shapes, a few hard edges, a little grain."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / width, y / height
    channels = []
    for c in range(3):
        a = 128 + 60 * np.sin(7 * u + 3 * v * (c + 1)) + 40 * np.cos(11 * v - 5 * u * (c + 2))
        a = np.where((u - 0.6) ** 2 + (v - 0.4) ** 2 < 0.03 + 0.01 * c, 230 - 40 * c, a)
        a = np.where((np.abs(u - 0.25) < 0.1) & (np.abs(v - 0.7) < 0.15), 40 + 70 * c, a)
        channels.append(a)
    grain = rng.normal(0, 2, (height, width, 1))
    return np.clip(np.stack(channels, -1) + grain, 0, 255).astype(np.uint8)


def png(samples, colour_type, depth):
    """A PNG of a kind that Pillow does not write. `samples`: height × row bytes, already packed."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    width = len(samples[0]) * 8 // (channels * depth)
    rows = b"".join(b"\0" + bytes(row) for row in samples)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, len(samples), depth, colour_type, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
            + chunk(b"IEND", b""))


def small_frame_gif():
    """A GIF whose first frame covers a part of its screen; the rest is transparent."""
    gif = saved(Image.fromarray(photo(30, 20)).quantize(16), "GIF", transparency=3)
    # The logical screen's size, then the first image descriptor's left and top.
    frame = gif.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 30, 20))
    return (gif[:6] + struct.pack("<HH", 61, 47) + gif[10:frame + 1] + struct.pack("<HH", 9, 14)
            + gif[frame + 5:])


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def rgb_on_white(image):
    """The picture's first frame as Pillow shows it, upright, alpha on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow would clip at 255; the server keeps the high byte, as Pillow does for colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def tiff(order, rows, width, bits, interpretation):
    """A TIFF of packed `rows` in the byte `order` of struct, for depths that Pillow reads and does not write."""
    short, long, data = 3, 4, rows.tobytes()
    entries = [(256, long, width), (257, long, len(rows)), (258, short, bits), (259, short, 1),
               (262, short, interpretation), (273, long, 0), (277, short, 1), (278, long, len(rows)),
               (279, long, len(data))]
    entries[5] = (273, long, 8 + 2 + 12 * len(entries) + 4)
    packed = {short: "HHIHxx", long: "HHII"}
    directory = b"".join(struct.pack(order + packed[kind], tag, kind, 1, value) for tag, kind, value in entries)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return header + struct.pack(order + "H", len(entries)) + directory + bytes(4) + data


def images():
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(photo(61, 47))
    noise = Image.fromarray(rng.integers(0, 256, (47, 61, 3), dtype=np.uint8))
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 61).astype(np.uint8), (47, 1)))
    rgba, la = rgb.copy(), rgb.convert("L")
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    grey16 = rng.integers(0, 65536, (31, 45), dtype=np.uint16)
    wide16 = lambda channels: rng.integers(0, 65536, (23, 35, channels)).astype(">u2").view(np.uint8).reshape(23, -1)
    palette = rgb.quantize(200)
    small_palette = rgb.quantize(13)
    soft = Image.fromarray(photo(203, 151))

    yield "rgb.png", saved(rgb, "PNG")
    yield "noise.png", saved(noise, "PNG")
    yield "one_pixel.png", saved(Image.new("RGB", (1, 1), (200, 30, 7)), "PNG")
    yield "wide_3000x2.png", saved(Image.fromarray(photo(3000, 2)), "PNG")
    yield "tall_2x3000.png", saved(Image.fromarray(photo(2, 3000)), "PNG")
    yield "grey.png", saved(rgb.convert("L"), "PNG")
    yield "grey_alpha.png", saved(la, "PNG")
    yield "rgba.png", saved(rgba, "PNG")
    yield "palette.png", saved(palette, "PNG")
    yield "palette_4bit.png", saved(small_palette, "PNG", bits=4)
    yield "palette_trns.png", saved(palette, "PNG", transparency=bytes(range(0, 200)))
    yield "bilevel.png", saved(rgb.convert("1"), "PNG")
    yield "grey_2bit.png", png(rng.integers(0, 256, (19, 9), dtype=np.uint8), 0, 2)
    yield "grey_4bit.png", png(rng.integers(0, 256, (19, 17), dtype=np.uint8), 0, 4)
    yield "grey_16bit.png", saved(Image.fromarray(grey16), "PNG")
    yield "rgb_16bit.png", png(wide16(3), 2, 16)
    yield "rgba_16bit.png", png(wide16(4), 6, 16)
    yield "grey_alpha_16bit.png", png(wide16(2), 4, 16)
    yield "bilevel.bmp", saved(rgb.convert("1"), "BMP")
    yield "palette.bmp", saved(palette, "BMP")
    yield "rgb.bmp", saved(rgb, "BMP")
    yield "rgba.bmp", saved(rgba, "BMP")
    yield "palette.gif", saved(palette, "GIF")
    yield "transparent.gif", saved(small_palette, "GIF", transparency=3)
    yield "animated.gif", saved(palette, "GIF", save_all=True, append_images=[noise.quantize(50)], duration=100)
    yield "small_frame.gif", small_frame_gif()
    yield "rgb.webp", saved(noise, "WEBP", lossless=True)
    yield "rgba.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(rgba, "WEBP", lossless=True, exact=True, save_all=True, append_images=[noise])
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
        yield f"rgb_{compression.removeprefix('tiff_')}.tiff", saved(rgb, "TIFF", compression=compression)
    yield "grey.tiff", saved(rgb.convert("L"), "TIFF")
    yield "bilevel.tiff", saved(rgb.convert("1"), "TIFF")
    yield "bilevel_fax4.tiff", saved(rgb.convert("1"), "TIFF", compression="group4")
    yield "rgba.tiff", saved(rgba, "TIFF")
    yield "cmyk.tiff", saved(rgb.convert("CMYK"), "TIFF")
    yield "grey_16bit.tiff", saved(Image.fromarray(grey16), "TIFF")
    yield "grey_inverted.tiff", saved(rgb.convert("L"), "TIFF", tiffinfo={262: 0})
    yield "ycbcr_lzw.tiff", saved(rgb.convert("YCbCr"), "TIFF", compression="tiff_lzw")
    yield "grey_alpha.tiff", saved(la, "TIFF")
    yield "grey_float.tiff", saved(Image.fromarray(rng.uniform(-20, 300, (31, 45)).astype(np.float32)), "TIFF")
    yield "grey_32bit.tiff", saved(Image.fromarray(rng.integers(-50, 400, (31, 45), dtype=np.int32)), "TIFF")
    for bits in (2, 4):
        rows = rng.integers(0, 256, (19, 9), dtype=np.uint8)
        width = 9 * 8 // bits - 1
        yield f"grey_{bits}bit.tiff", tiff("<", rows, width, bits, interpretation=1)
        yield f"grey_{bits}bit_inverted.tiff", tiff(">", rows, width, bits, interpretation=0)
        rng.integers(0, 65536, 3 << bits)  # drawn for a palette once: the next image depends on it

    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        yield f"orientation_{orientation}.jpg", saved(rgb, "JPEG", quality=90, subsampling=0, exif=exif)
    exif[0x0112] = 6
    yield "orientation_6.png", saved(rgb, "PNG", exif=exif)
    # Some writers keep the prefix that EXIF has inside a JPEG; Pillow strips one of these two.
    yield "orientation_6_prefixed.png", saved(rgb, "PNG", exif=b"Exif\0\0" + exif.tobytes())
    yield "orientation_6.webp", saved(rgb, "WEBP", lossless=True, exif=exif)
    yield "orientation_6.tiff", saved(rgb, "TIFF", tiffinfo={274: 6})

    yield "rgb_420.jpg", saved(soft, "JPEG", quality=85)
    yield "rgb_422.jpg", saved(soft, "JPEG", quality=85, subsampling=1)
    yield "rgb_444.jpg", saved(soft, "JPEG", quality=95, subsampling=0)
    yield "noise_444.jpg", saved(noise, "JPEG", quality=95, subsampling=0)
    yield "noise_420.jpg", saved(noise, "JPEG", quality=85)
    yield "progressive.jpg", saved(soft, "JPEG", quality=85, progressive=True)
    yield "grey.jpg", saved(soft.convert("L"), "JPEG", quality=85)
    cmyk = saved(soft.convert("CMYK"), "JPEG", quality=90)
    yield "cmyk.jpg", cmyk
    # Adobe's marker says how four channels are meant: 0 is CMYK, 2 is YCCK. The colours become
    # odd, but every decoder must agree on them.
    adobe = cmyk.index(b"Adobe")
    assert cmyk[adobe + 11] == 0
    yield "ycck.jpg", cmyk[:adobe + 11] + b"\x02" + cmyk[adobe + 12:]
    yield "lossy.webp", saved(soft, "WEBP", quality=80)
    yield "lossy_alpha.webp", saved(rgba, "WEBP", quality=80)
    yield "photo_12_megapixels.jpg", saved(Image.fromarray(photo(4000, 3000)), "JPEG", quality=75)


def refused():
    """Variants of TIFF that the server's decoder does not know: palettes and CIE L*a*b*."""
    rgb = Image.fromarray(photo(61, 47))
    palette = rgb.quantize(200)
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 61).astype(np.uint8), (47, 1))))
    yield "palette.tiff", saved(palette, "TIFF")
    yield "palette_lzw_turned.tiff", saved(palette, "TIFF", compression="tiff_lzw", tiffinfo={274: 6})
    yield "palette_alpha.tiff", saved(rgba.convert("PA"), "TIFF")
    yield "lab.tiff", saved(Image.frombytes("LAB", (5, 4), bytes(60)), "TIFF")


def resized(image, side):
    return np.asarray(image.resize((side, side), Image.BICUBIC)).tobytes()


def hashes(image):
    return {str(side): blake3(resized(image, side)).hexdigest() for side in SIDES}


def main(folder):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "expected").mkdir(exist_ok=True)
    (folder / "refused").mkdir(exist_ok=True)
    for name, data in refused():
        (folder / "refused" / name).write_bytes(data)
    manifest = {"sides": SIDES, "stored_side": STORED_SIDE, "images": [], "patterns": []}
    for name, data in images():
        (folder / "images" / name).write_bytes(data)
        picture = rgb_on_white(Image.open(io.BytesIO(data)))
        (folder / "expected" / f"{name}.rgb").write_bytes(resized(picture, STORED_SIDE))
        manifest["images"].append({"file": name, "width": picture.width, "height": picture.height,
                                   "jpeg": name.endswith(".jpg"), "blake3": hashes(picture)})
    for width, height in PATTERNS:
        picture = Image.fromarray(pattern(width, height))
        manifest["patterns"].append({"width": width, "height": height, "blake3": hashes(picture)})
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
