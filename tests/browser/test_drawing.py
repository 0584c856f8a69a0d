"""What is drawn over the picture: labels beside what they name, masks on the shapes, and how sure the model must be."""

import base64
import io

import pytest
import stub
from page import DESKTOP, PHONE, Page
from PIL import Image
from test_page import shown_code, slide
from test_tasks import SCENES, answer, shape_in

CROWD = [("cat", 100 * x, 110 * y, 100 * x + 95, 110 * y + 105, 0.5) for x in range(4) for y in range(3)]
WHOLE = [("everything there is", 0, 0, 480, 360, 0.9)]
CORNERS = [("upper left", 0, 0, 30, 30, 0.5), ("lower right", 450, 330, 480, 360, 0.5), ("edge", 470, 0, 480, 360, 0.5)]


@pytest.fixture
def detected(chromium, server):
    """Opens the page, and has it detect these objects."""
    page = Page(chromium)

    def detect(*objects):
        with stub.answers(page, {"/v1/detect": stub.detection(*objects)}):
            page.open(server.address)
        page.task("detect")
        page.run_to_end()
        return page

    yield detect
    page.assert_no_console_errors()


def covered(page):
    """Labels, and how many square pixels of their own boxes each covers."""
    return page.js(
        """
        const area = (selector) => document.querySelector(selector).getBoundingClientRect();
        return [...document.querySelectorAll('#overlay .label')].map((label) => {
          const one = label.getBoundingClientRect();
          const other = area(`#overlay .shape[data-object='${label.dataset.object}'] .box`);
          const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
          const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
          return [label.textContent, Math.max(0, width) * Math.max(0, height)];
        });
        """
    )


@pytest.mark.parametrize(("name", "objects"), [("crowd", CROWD), ("whole", WHOLE), ("corners", CORNERS)])
def test_labels_do_not_cover_what_they_label(detected, name, objects):
    page = detected(*objects)
    for size in (DESKTOP, PHONE):
        page.look(size, "light")
        page.wait("the labels", lambda: len(covered(page)) == len(objects))
        assert [label for label, area in covered(page) if area > 1] == [], f"at {size}"
        inside = page.js(
            "const s = document.querySelector('#stage').getBoundingClientRect();"
            "return [...document.querySelectorAll('#overlay .label')].every((each) => { const r = each.getBoundingClientRect();"
            "return r.top >= s.top && r.bottom <= s.bottom && r.left >= s.left && r.right <= s.right; })"
        )
        assert inside, "a label leaves the stage"
    page.check_looks(f"labels-{name}")


def test_objects_are_hidden_when_the_model_is_less_sure_of_them(detected):
    page = detected(("cat", 10, 10, 100, 100, 0.8), ("dog", 200, 100, 300, 200, 0.3))
    assert [each.text for each in page.all(".found .sure")] == ["80 % sure", "30 % sure"]
    slide(page, "least", 0.5)
    assert [each.text for each in page.all(".found .name")] == ["cat"]
    assert len(page.all("#overlay .box")) == 1
    assert page.text(".hint") == "1 of 2 objects shown."
    assert "min_score=0.5" in shown_code(page, "sh")
    page.check_looks("least")
    slide(page, "least", 0)
    assert len(page.all("#overlay .box")) == 2
    assert "min_score" not in shown_code(page, "sh")


def on_screen(page, scale):
    """The frame, with so many pixels for each of the page's."""
    script = """
        scrollTo(0, 0);
        const { x, y, width, height } = document.querySelector('#frame').getBoundingClientRect();
        return { x, y, width, height, scale: arguments[0] };
        """
    taken = page.cdp("Page.captureScreenshot", clip=page.js(script, scale))
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def hide(page, selector):
    page.js(
        "const sheet = new CSSStyleSheet(); sheet.replaceSync(`${arguments[0]} { display: none }`);"
        "document.adoptedStyleSheets.push(sheet)",
        selector,
    )


def edges(line, of):
    """The first and the last place on a line at which `of(pixel)` holds."""
    places = [place for place, pixel in enumerate(line) if of(pixel)]
    return places[0], places[-1] + 1


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_edge_of_a_mask_lies_on_that_of_the_shape(page, server, size):
    """Along the lines through the middle of the circle, in pixels of the picture."""
    file = "circle-and-square.jpg"
    page.task("segment")
    page.fill("objects", "red circle")
    page.run_to_end()
    page.look(size, "light")
    hide(page, "#overlay :is(.label, .box, .halo)")
    after = on_screen(page, 4)
    hide(page, "#overlay")
    before = on_screen(page, 4)
    scale = before.width / SCENES[file]["width"]
    tinted = lambda at: max(abs(a - b) for a, b in zip(before.getpixel(at), after.getpixel(at))) > 12
    drawn = cross(before.size, [place * scale for place in middle(file)], tinted)
    drawn = [place / scale for place in drawn]

    [found] = answer(server, "segment", file, objects="red circle")["objects"]
    mask = Image.open(io.BytesIO(base64.b64decode(found["mask"])))
    sent = cross(mask.size, middle(file), lambda at: mask.getpixel(at) > 127)
    assert drawn == pytest.approx(sent, abs=0.75), "not where the server says"
    x0, y0, x1, y1 = shape_in(file, "red circle")
    # What is left is the model's own error.
    assert drawn == pytest.approx([x0, x1, y0, y1], abs=3)


def middle(file):
    x0, y0, x1, y1 = shape_in(file, "red circle")
    return (x0 + x1) / 2, (y0 + y1) / 2


def cross(size, middle, of):
    """Left, right, upper and lower edge of what `of(place)` holds for, along two lines."""
    x, y = map(round, middle)
    across = edges([(each, y) for each in range(size[0])], of)
    return [*across, *edges([(x, each) for each in range(size[1])], of)]
