"""Scenes keep what the categories promise, and their truths fit their pictures."""

import re

import numpy as np
import pytest

import categories
from questions import place
from scoring import mask_iou
from shapes import KINDS, Shape

EACH = {c.name: i for i, c in enumerate(categories.CATEGORIES)}
TOTAL = len(EACH)


def some(name, count=6):
    return [categories.numbered(7, EACH[name] + i * TOTAL)[1:] for i in range(count)]


def test_the_same_number_draws_the_same_scene():
    for index in range(TOTAL):
        (_, one, asked), (_, other, again) = categories.numbered(3, index), categories.numbered(3, index)
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
        assert [p.text for p in asked] == [p.text for p in again]
    assert [p.text for p in categories.numbered(4, 0)[2]] != [p.text for p in categories.numbered(3, 0)[2]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_fills_its_box_and_covers_its_colour(kind):
    red = np.array([224.0, 32.0, 32.0])
    shape = Shape(kind, 80, center=(60, 50), rgb=red)
    x0, y0, x1, y1 = shape.bounds()
    ys, xs = np.nonzero(shape.silhouette(120, 100))
    assert np.allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], [x0, y0, x1, y1], atol=1.1)
    assert 70 <= x1 - x0 <= 81


def test_masks_are_where_the_colour_is():
    for scene, _ in some("aliased"):
        picture = np.asarray(scene.image).astype(int)
        for shape in scene.shapes:
            exact = (picture == shape.rgb.astype(int)).all(-1)
            others = [s for s in scene.shapes if s is not shape and (s.rgb == shape.rgb).all()]
            assert mask_iou(exact, np.any([shape.visible] + [o.visible for o in others], 0)) > 0.98


def test_a_hollow_shape_shows_the_ground_inside():
    for scene, _ in some("hollow"):
        for shape in scene.shapes:
            assert shape.ink.sum() < 0.9 * shape.visible.sum()


def test_sizes_and_numbers_are_those_of_the_category():
    for scene, _ in some("small"):
        short = min(scene.image.size)
        assert all(0.1 * short <= s.across <= 0.15 * short for s in scene.shapes)
    assert all(len(scene.shapes) in (5, 6) for scene, _ in some("five or six shapes"))


def test_overlapping_shapes_hide_a_little_of_each_other():
    for scene, _ in some("overlapping"):
        lower, upper = scene.shapes[:2]
        whole = lower.silhouette(*scene.image.size)
        assert 0.03 <= (whole & upper.visible).sum() / whole.sum() <= 0.15


def test_phrases_are_as_many_as_the_category_says():
    for count, name in enumerate(["one", "two", "three", "four", "five", "six"], 1):
        for _, prompts in some(f"{name} phrase{'s' * (count > 1)}", 3):
            for prompt in prompts:
                assert len(prompt.text.split(" ; ")) == count
                assert len(prompt.right) >= count


def test_an_absent_phrase_has_no_shape():
    for _, prompts in some("absent phrases", 12):
        asked = prompts[0].text.removeprefix("detect ").split(" ; ")
        assert 1 <= len(asked) <= 6
        assert {label for label, _ in prompts[0].right} < set(asked)


@pytest.mark.parametrize(("name", "size"), [("region of one", 1), ("region of two", 2)])
def test_a_region_holds_whole_shapes_and_no_part_of_another(name, size):
    for scene, (prompt,) in some(name):
        y0, x0, y1, x1 = (int(v) / 1023 for v in re.findall(r"<loc(\d{4})>", prompt.text))
        inside = []
        for shape in scene.shapes:
            a, b, c, d = shape.box
            if x0 < c and a < x1 and y0 < d and b < y1:
                inside.append(shape.name)
                assert min(a - x0, b - y0, x1 - c, y1 - d) > -0.001
        assert sorted(inside) == sorted(prompt.right.elements()) and len(inside) == size


def test_places_are_the_ninths_of_the_picture():
    assert place(0.1, 0.1) == {"top left"}
    assert "center" in place(0.5, 0.5)
    assert "left" in place(0.2, 0.5)
    assert "bottom" in place(0.5, 0.9)
    assert place(0.9, 0.8) == {"bottom right"}


def test_questions_are_about_shapes_that_can_be_told_apart():
    for scene, prompts in some("plain", 20):
        for prompt in prompts:
            if prompt.kind == "what color":
                kind = prompt.text.split()[-1].rstrip("?")
                assert [s.color for s in scene.shapes if s.kind == kind] == list(prompt.right)
            if prompt.kind == "is there":
                thing = re.search(r"an? (.*)\?", prompt.text).group(1)
                assert prompt.right == {"yes" if any(thing in (s.name, s.kind) for s in scene.shapes) else "no"}


def test_text_lies_beside_the_shapes():
    for scene, prompts in some("text beside"):
        assert prompts[-1].right == scene.words
        for text in scene.texts:
            x0, y0, x1, y1 = (int(v) for v in text.bounds())
            assert not any(s.visible[y0 : y1 + 1, x0 : x1 + 1].any() for s in scene.shapes)
