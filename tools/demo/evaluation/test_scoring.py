"""The evaluation's own arithmetic."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

import scoring
from questions import Prompt
from report import Report
from scoring import Found

LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)


def shape(box):
    return SimpleNamespace(box=box)


def boxes(*wanted):
    return Prompt("boxes", "1 phrase", "detect …", [(label, shape(box)) for label, box in wanted])


def summed(prompt, answer):
    result = {}
    for measure, value in scoring.values(prompt, answer):
        result.setdefault(measure, []).append(round(float(value), 3))
    return result


def test_iou_of_boxes():
    assert scoring.box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert scoring.box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert scoring.box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0
    assert scoring.box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_iou_of_masks():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert scoring.mask_iou(a, b) == pytest.approx(1 / 3)
    assert scoring.mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0


def test_a_hollow_shapes_mask_may_be_its_line_or_all_of_it():
    whole, line = np.ones((4, 4), bool), np.ones((4, 4), bool)
    line[1:3, 1:3] = False
    hollow = SimpleNamespace(visible=whole, ink=line)
    for mask in (whole, line):
        assert scoring.mask_overlap(Found("red circle", LEFT, mask=mask), ("red circle", hollow)) == 1
    assert scoring.mask_overlap(Found("red star", LEFT, mask=whole), ("red circle", hollow)) == 0


def test_objects_are_read_from_the_models_text():
    codes = "".join(f"<seg{n:03}>" for n in range(16))
    text = f"<loc0000><loc0341><loc1023><loc0682> red circle ; <loc0001><loc0002><loc0003><loc0004>{codes} blue star"
    (first, box, none), (second, _, read) = scoring.objects(text)
    assert (first, second) == ("red circle", "blue star")
    assert box == pytest.approx((341 / 1023, 0, 682 / 1023, 1))
    assert none is None and read == list(range(16))


def test_empty_and_incomplete_boxes_are_no_objects():
    assert scoring.objects("<loc0009><loc0001><loc0009><loc0005> red circle") == []
    assert scoring.objects("<loc0009><loc0001><loc0010> red circle") == []
    assert scoring.objects("") == []


def test_each_found_object_serves_one_wanted_object():
    one = [Found("star", LEFT)]
    overlaps, _ = scoring.match(one, [("star", shape(LEFT)), ("star", shape(LEFT))], scoring.box_overlap)
    assert sorted(overlaps) == [0, 1]


def test_the_best_pairs_are_matched_whatever_the_order():
    found = [Found("star", RIGHT), Found("star", LEFT)]
    overlaps, partner = scoring.match(found, [("star", shape(LEFT)), ("star", shape(RIGHT))], scoring.box_overlap)
    assert overlaps == [1, 1] and partner == [1, 0]


def test_a_missing_box_counts_nothing_and_an_extra_one_makes_the_number_wrong():
    two = boxes(("star", LEFT), ("heart", RIGHT))
    assert summed(two, [Found("star", LEFT)]) == {"boxes: number": [0], "boxes: IoU": [1, 0]}
    more = [Found("star", LEFT), Found("heart", RIGHT), Found("heart", RIGHT)]
    assert summed(two, more) == {"boxes: number": [0], "boxes: IoU": [1, 1]}


def test_an_absent_phrase_wants_no_box():
    assert summed(boxes(), []) == {"boxes: number": [1]}
    assert summed(boxes(), [Found("star", LEFT, 0.9)]) == {"boxes: number": [0], "sure: precision": [0]}


def test_confidence_asks_whether_sure_boxes_are_right_and_reach_every_shape():
    two = boxes(("star", LEFT), ("heart", RIGHT))
    answer = [Found("star", LEFT, 0.9), Found("heart", RIGHT, 0.4), Found("cross", LEFT, 0.7)]
    result = summed(two, answer)
    assert result["sure: precision"] == [1, 0]  # the heart is not sure, the cross is wrong
    assert result["sure: recall"] == [1, 0]


def test_a_sure_box_in_the_wrong_place_is_neither_precise_nor_a_recall():
    result = summed(boxes(("star", LEFT)), [Found("star", (0.2, 0.2, 0.6, 0.6), 0.9)])
    assert result["sure: precision"] == [0] and result["sure: recall"] == [0]


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("a red circle and a blue square on a white background", {"red circle": 1, "blue square": 1}),
        ("a pink heart, a red heart and a pink heart", {"pink heart": 2, "red heart": 1}),
        ("two red crosses and 3 blue stars", {"red cross": 2, "blue star": 3}),
        ("a circle", {"circle": 1}),
        ("", {}),
    ],
)
def test_captions_are_read_as_sets_of_shapes(caption, names):
    assert scoring.named(caption) == Counter(names)


def test_a_grey_pictures_caption_is_read_by_kinds():
    prompt = Prompt("captions", "cap en", "cap en", Counter({"circle": 2}))
    for caption in ("a circle and a circle", "a black circle and a gray circle", "two circles"):
        assert scoring.values(prompt, caption) == [("captions", True)]
    assert scoring.values(prompt, "a circle") == [("captions", False)]


@pytest.mark.parametrize(
    ("caption", "numbers"),
    [
        ("2 circles, 1 star", {"circle": 2, "star": 1}),
        ("1 cross", {"cross": 1}),
        ("3 crosses, 2 hearts", {"cross": 3, "heart": 2}),
        ("2 circle", None),
        ("1 stars", None),
        ("1 star, 1 star", None),
        ("a red circle", None),
        ("", None),
    ],
)
def test_counts_are_read_if_they_are_well_formed(caption, numbers):
    assert scoring.counted(caption) == numbers


def test_a_caption_that_names_one_more_is_wrong():
    prompt = Prompt("captions", "cap en", "cap en", Counter({"red circle": 1}))
    assert scoring.values(prompt, "a red circle and a blue star") == [("captions", False)]


def test_questions_take_every_way_to_say_it():
    prompt = Prompt("questions", "which is larger", "answer en …", {"circle", "red circle"})
    for answer in ("circle", "the red circle", "Circle."):
        assert scoring.values(prompt, answer) == [("questions", True)]
    assert scoring.values(prompt, "square") == [("questions", False)]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Open 24", [True, True]),
        ("24\nOpen", [True, True]),
        ("open 24", [True, False]),
        ("Open", [True, False]),
        ("Open 24 24", [True, True, False]),
        ("", [False, False]),
    ],
)
def test_words_are_exact(answer, right):
    assert scoring.words(answer, ["Open", "24"]) == right


def test_a_report_marks_what_is_below_what_is_wanted():
    report = Report(["plain", "not asked", "small"])
    prompt = Prompt("questions", "where", "answer en …", {"left"})
    for category, answer in [("plain", "left"), ("plain", "left"), ("small", "left"), ("small", "top")]:
        report.add(category, prompt, scoring.values(prompt, answer))
    assert report.by_category() == [
        ["category", "questions"],
        ["wanted", "≥ 95.0"],
        ["all", "75.0* (4)"],
        ["plain", "100.0 (2)"],
        ["small", "50.0* (2)"],
    ]
