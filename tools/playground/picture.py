"""Makes docs/playground.png: the playground of a running server, with masks drawn over a picture.

    cargo run --release -- serve
    python tools/playground/picture.py --server http://127.0.0.1:8080

Needs Chromium, its driver, and the packages of tests/requirements.txt.
"""

import argparse
import base64
import io
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from page import Page  # noqa: E402

SIZE = (1180, 760)


def browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--example", default="circle-and-square.jpg")
    parser.add_argument("--objects", default="red circle, blue square")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "playground.png")
    args = parser.parse_args()

    driver = browser()
    try:
        page = Page(driver)
        page.open(args.server)
        page.example(args.example)
        page.task("segment")
        page.fill("objects", args.objects)
        page.run_to_end()
        page.look(SIZE, "light")
        page.js("scrollTo(0, 0)")
        taken = base64.b64decode(page.cdp("Page.captureScreenshot")["data"])
    finally:
        driver.quit()
    # 256 colours are enough for a page, and a quarter of the bytes.
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(256).save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
