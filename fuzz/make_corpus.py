#!/usr/bin/env python3
"""Makes the seeds in `corpus/` and the dictionaries in `dictionaries/`, from the goldens of the tests and what stands here."""

import base64
import io
import json
import pathlib
import re
import shutil
import struct
import zipfile

HERE = pathlib.Path(__file__).parent
GOLDENS = HERE.parent / "tests/goldens"
PIXEL = (GOLDENS / "pixels/images/one_pixel.png").read_bytes()

# The order of the routes in `src/service.rs`.
CAPTION, VQA, QUESTION, OCR, DETECT, SEGMENT, GENERATE, CHAT, COMPLETIONS = (bytes([route]) for route in range(9))


def seed(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def copy(target, path, name=None):
    seed(target, name or path.name, path.read_bytes())


def jsons():
    image = base64.b64encode(PIXEL).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "what is it?"}]}
    common = {"image": image, "max_tokens": 2}
    bodies = {
        "caption": (CAPTION, {**common, "length": "short", "language": "de", "region": [0, 0, 1, 1]}),
        "vqa": (VQA, {"images": [image, image], "questions": ["what?", "where?"], "max_tokens": 2, "seed": 7}),
        "question": (QUESTION, {**common, "answer": "a cat", "temperature": 0.5, "top_p": 0.9, "top_k": 3}),
        "ocr": (OCR, {**common, "stream": True, "queue_position": True}),
        "detect": (DETECT, {**common, "objects": ["cat", "dog"], "min_score": 0.25}),
        "segment": (SEGMENT, {**common, "object": "cat", "mask_format": "rle"}),
        "generate": (GENERATE, {**common, "prompt": "caption en", "stop": ["."], "logprobs": True, "timeout": "1s"}),
        "chat": (CHAT, {"model": "paligemma", "messages": [message], "max_tokens": 2, "top_logprobs": 2, "logprobs": True}),
        "completions": (COMPLETIONS, {"image": image, "prompt": "caption en", "max_tokens": 2, "stream": True}),
    }
    for name, (route, body) in bodies.items():
        seed("json", f"{name}.seed", route + json.dumps(body).encode())
    return {key for _, body in bodies.values() for key in body} | set(part) | set(message)


def form(fields):
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return b"".join(parts) + b"--b--\r\n"


def multiparts():
    image = ("image", PIXEL)
    seed("multipart", "caption.seed", CAPTION + form([image, ("max_tokens", b"2")]))
    seed("multipart", "two_images.seed", VQA + form([image, image, ("question", b"what is it?")]))
    seed("multipart", "detect.seed", DETECT + form([("objects", b"cat"), ("objects", b"dog"), image]))
    named = form([image]).replace(b'"image"', b'"image"; filename="a.png"\r\nContent-Type: image/png')
    seed("multipart", "file_name.seed", CAPTION + named)


def base64s():
    for choice in range(5):
        seed("base64", f"file_{choice}.seed", bytes([choice]) + PIXEL)
    url = b"data:image/png;charset=x;base64," + base64.b64encode(PIXEL)
    seed("base64", "url.seed", b"\x05" + url)
    seed("base64", "address.seed", b"\x05https://example.com/cat.png")


def images():
    for name in [
        "bilevel.bmp", "bilevel.png", "bilevel_fax4.tiff", "grey_2bit.png", "grey_2bit.tiff", "grey_4bit_inverted.tiff",
        "grey_alpha.png", "lossy_alpha.webp", "one_pixel.png", "orientation_6.jpg", "palette_4bit.png", "small_frame.gif",
        "transparent.gif",
    ]:  # fmt: skip
        copy("image", GOLDENS / "pixels/images" / name)


def answers():
    box = "<loc0100><loc0200><loc0300><loc0400>"
    codes = "".join(f"<seg{code:03}>" for code in range(16))
    for name, masks, text in [
        ("boxes", 0, f"{box} cat ; {box} big dog"),
        ("masks", 1, f"{box}{codes} cat ; {box}{codes}"),
        ("broken", 0, f"a <loc0100><loc0200> cat ; <seg001> ; {box}<lo"),
    ]:
        seed("answers", f"{name}.seed", bytes([3, masks]) + text.encode())


def configurations():
    default = (HERE.parent / "config/default.toml").read_text()
    bare = re.sub(r"(?m)^#.*\n|^\n", "", default)
    seed("settings", "default.toml", bare.encode())
    seed("settings", "keys.toml", b'api_keys = ["one", "two"]\nport = 80\nqueue = "8"\nadapter = { a = "b" }\n')
    for name in ["pg1-hub", "pg2-hub-f32", "pg2-saved-bf16-layers"]:
        copy("model_config", GOLDENS / "model" / name / "config.json", f"{name}.json")
    for name in ["pg1-fan-in-fan-out", "pg1-patterns-f16", "pg1-bias"]:
        copy("adapter_config", GOLDENS / "adapters" / name / "adapter_config.json", f"{name}.json")
    return re.findall(r"(?m)^(\w+) = ", default)


def safetensors(tensors):
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def weights():
    floats = struct.pack("<4f", 0, 1, -1, 0.5)
    seed("safetensors", "f32.safetensors", safetensors({"tensor": ("F32", [2, 2], floats)}))
    seed("safetensors", "bf16.safetensors", safetensors({"tensor": ("BF16", [8], floats)}))
    pair = {
        "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", [4, 1], floats),
        "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", [1, 4], floats),
    }
    seed("safetensors", "adapter.safetensors", safetensors(pair))
    for name, method in [("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)]:
        seed("npz", f"{name}.npz", npz(method, floats))


def npz(method, floats):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + floats
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in ["_vq_vae._embedding", "decoder.0.weight"]:
            # A fixed time, so that the file is the same each time.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array, method)
    return file.getvalue()


def dictionary(target, words):
    def quoted(character):
        return f"\\{character}" if character in '"\\' else character if character.isprintable() else f"\\x{ord(character):02x}"

    lines = sorted('"' + "".join(map(quoted, word)) + '"\n' for word in set(words))
    folder = HERE / "dictionaries"
    folder.mkdir(exist_ok=True)
    (folder / f"{target}.dict").write_text("".join(lines))


def keys(value):
    """All keys of a JSON value."""
    match value:
        case dict():
            return set(value).union(*map(keys, value.values()))
        case list():
            return set().union(*map(keys, value))
        case _:
            return set()


def keys_of_seeds(target):
    return set().union(*(keys(json.loads(path.read_text())) for path in (HERE / "corpus" / target).glob("*.json")))


def main():
    shutil.rmtree(HERE / "corpus", ignore_errors=True)
    dictionary("json", [f'"{field}":' for field in jsons()] + ["true", "false", "null", "-1", "1e400", "\\u0000", "\\ud800"])
    multiparts()
    dictionary("multipart", ["--b", "--b--", "Content-Disposition: form-data; name=", "; filename=", "Content-Type: ", "image"])
    base64s()
    images()
    answers()
    dictionary("answers", ["<loc", "<seg", "<loc0000>", "<loc1023>", "<seg127>", " ; "])
    dictionary("settings", configurations())
    dictionary("model_config", [f'"{key}":' for key in keys_of_seeds("model_config")])
    dictionary("adapter_config", [f'"{key}":' for key in keys_of_seeds("adapter_config")] + ["(?=", "{9}", "\\\\1", ".*"])
    weights()
    dictionary("safetensors", ['"dtype":', '"shape":', '"data_offsets":', "BF16", "F16", "F32", "F8_E4M3", "I64", "lora_A", "lora_B"])
    dictionary("npz", ["'descr': ", "'fortran_order': ", "'shape': ", "<f2", "<f4", "<f8", "PK\x01\x02", "PK\x03\x04"])


main()
