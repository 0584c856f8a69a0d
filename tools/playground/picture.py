"""Makes docs/playground.gif: the playground of a running server, asked for masks, boxes and an answer.

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

SIZE = (1180, 910)
TYPED, ANSWERED = 140, 2600  # milliseconds that a frame is seen
LETTERS = 4  # that are typed between two frames
# An example, a task, the field of what is asked, and what is.
SCENES = [
    ("circle-and-square.jpg", "segment", "objects", "red circle, blue square"),
    ("four-shapes.png", "detect", "objects", "star, triangle, cross, circle"),
    ("three-hearts.png", "vqa", "question", "how many hearts are there?"),
]


def browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options)


def frames(page):
    """Pictures of the page and how long each is seen, in milliseconds."""

    def taken(milliseconds):
        page.js("scrollTo(0, 0)")
        png = base64.b64decode(page.cdp("Page.captureScreenshot")["data"])
        return Image.open(io.BytesIO(png)).convert("RGB"), milliseconds

    for example, task, field, words in SCENES:
        page.example(example)
        page.task(task)
        page.look(SIZE, "light")
        for end in range(len(words) + 1):
            # As a person types, a few letters at a time.
            if end % LETTERS == 0 or end == len(words):
                page.fill(field, words[:end])
                yield taken(TYPED)
        page.run_to_end()
        yield taken(ANSWERED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "playground.gif")
    args = parser.parse_args()

    driver = browser()
    try:
        page = Page(driver)
        page.open(args.server)
        page.look(SIZE, "light")
        pictures, durations = zip(*frames(page))
    finally:
        driver.quit()
    # One palette for all, of the answers' colours: a page has few, and what does not change costs nothing then.
    answers = [picture for picture, duration in zip(pictures, durations) if duration == ANSWERED]
    palette = Image.new("RGB", (SIZE[0], SIZE[1] * len(answers)))
    for place, answer in enumerate(answers):
        palette.paste(answer, (0, SIZE[1] * place))
    palette = palette.quantize(128, dither=Image.Dither.NONE)
    small = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    small[0].save(args.out, save_all=True, append_images=small[1:], duration=list(durations), loop=0, optimize=True)
    print(f"{args.out}: {len(small)} frames, {args.out.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
