"""Every task, from the picture to what is shown."""

import io
import json
from collections import Counter

import pytest
import requests
from PIL import Image, ImageOps
from server import IMAGES

SCENES = json.loads((IMAGES / "scenes.json").read_text())


def answer(server, task, file, **fields):
    """What the API says about the same."""
    with open(IMAGES / file, "rb") as image:
        response = requests.post(f"{server.url}/{task}", files={"image": image}, data=fields)
    return response.json()["results"][0]


def upright(file):
    return ImageOps.exif_transpose(Image.open(IMAGES / file)).convert("RGB")


def shape_in(file, name):
    """Where the shape's pixels are: the box around all that have the colour of its middle."""
    picture = upright(file)
    [shape] = [shape for shape in SCENES[file]["shapes"] if shape["name"] == name]
    x0, y0, x1, y1 = (round(shape["box"][side]) for side in ("x0", "y0", "x1", "y1"))
    colour = picture.getpixel(((x0 + x1) // 2, (y0 + y1) // 2))
    near = lambda pixel: 255 * (max(abs(a - b) for a, b in zip(pixel, colour)) < 50)
    mask = Image.new("L", picture.size)
    mask.putdata([near(pixel) for pixel in picture.get_flattened_data()])
    return mask.getbbox()


def overlap(one, other):
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return both / (area(one) + area(other) - both)


def test_the_first_view_is_complete(page):
    page.wait("the model's name", lambda: "demo" in page.text("#model-name"))
    assert page.text("#file-name") == "circle-and-square.jpg"
    assert page.text("#idle") == "It appears here while it is written."
    page.check_looks("first-view")


def test_an_uploaded_picture_is_captioned_as_a_stream(page, server):
    page.choose(IMAGES / "wide.png")
    page.js(
        """
        const seen = window.seen = [];
        new MutationObserver(() => seen.push(document.querySelector('.text')?.textContent))
          .observe(document.querySelector('#answers'), { childList: true, characterData: true, subtree: true });
        """
    )
    page.run_to_end()
    caption = answer(server, "caption", "wide.png")["caption"]
    assert page.text(".text") == caption
    steps = [text for text in page.js("return seen") if text]
    assert len(set(steps)) >= 3, "it was not shown while it was written"
    assert all(caption.startswith(text) for text in steps)
    assert int(page.text(".tokens")) > 3
    page.check_looks("caption")


def test_a_question_is_answered_when_enter_is_pressed(page):
    page.example("three-hearts.png")
    page.task("vqa")
    page.fill("question", "how many pink shapes are there?\n")
    page.wait("the answer", lambda: page.text(".text") == "2")
    page.check_looks("question")


def test_a_prompt_of_ones_own_is_answered_word_for_word(page):
    page.example("red-circle.png")
    page.task("generate")
    page.fill("prompt", "cap en")
    page.run_to_end()
    assert page.text(".text") == "a red circle"


def test_text_that_is_not_there(other_page):
    server, page = other_page("--known-tasks", "caption,ocr")
    page.wait("the model", lambda: "demo" in page.text("#model-name"))
    assert [each.text for each in page.all("#tasks label") if each.is_displayed()] == ["Caption", "Text", "Prompt"]
    page.task("ocr")
    page.run_to_end()
    assert page.text(".text") or page.text(".hint") == "The model had nothing to say."


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("circle-and-square.jpg", ["red circle", "blue square"]),
        ("exif-rotated.jpg", ["green heart", "orange square"]),
        ("wide.png", None),
        ("tall.webp", ["yellow circle", "blue heart"]),
        ("small.gif", None),
    ],
)
def test_boxes_are_drawn_where_the_shapes_are(page, file, names):
    counts = Counter(shape["name"] for shape in SCENES[file]["shapes"])
    names = names or [name for name, count in counts.items() if count == 1][:2]
    page.choose(IMAGES / file)
    page.task("detect")
    page.fill("objects", ", ".join(names))
    page.run_to_end()
    labels = [row.text for row in page.all(".found .name")]
    assert sorted(labels) == sorted(names)
    for size in ((1280, 900), (390, 844)):
        page.look(size, "light")
        for index, name in enumerate(labels):
            drawn = page.rectangle(f"#overlay g[data-object='{index}'] .box")
            assert overlap(drawn, shape_in(file, name)) > 0.8, f"{name} at {size}: {drawn}"
    page.check_looks(f"detect-{file.split('.')[0]}")


def test_masks_cover_the_shape_and_not_its_ground(page):
    file = "circle-and-square.jpg"
    page.task("segment")
    page.fill("objects", "red circle")
    before = picture_on_screen(page)
    page.run_to_end()
    page.wait("the mask", lambda: page.all("#overlay mask image"))
    page.js("document.querySelectorAll('#overlay .label').forEach((label) => label.remove())")
    after = picture_on_screen(page)
    x0, y0, x1, y1 = shape_in(file, "red circle")
    scale = before.width / SCENES[file]["width"]
    at = lambda picture, x, y: picture.getpixel((round((x0 + (x1 - x0) * x) * scale), round((y0 + (y1 - y0) * y) * scale)))
    change = lambda x, y: max(abs(a - b) for a, b in zip(at(before, x, y), at(after, x, y)))
    assert change(0.5, 0.5) > 25, "no tint in the middle of the circle"
    # Between the circle and the corners of its box there is ground.
    assert max(change(x, y) for x in (0.07, 0.93) for y in (0.07, 0.93)) < 10
    page.find("#run").click()
    page.wait("both again", lambda: page.all("#overlay .label"))
    page.check_looks("segment")


def picture_on_screen(page):
    return Image.open(io.BytesIO(page.find("#frame").screenshot_as_png)).convert("RGB")


def test_an_absent_object_is_said_to_be_absent(page):
    page.task("detect")
    page.fill("objects", "green star")
    page.run_to_end()
    assert page.text(".hint") == "Nothing of that was found."
    page.check_looks("nothing-found")
