"""Collects values and writes them as tables."""

from collections import defaultdict

import numpy as np

# What is wanted of each measure, over all categories.
WANTED = {
    "questions": 0.95,
    "captions": 0.85,
    "counts": 0.85,
    "boxes: number": 0.93,
    "boxes: IoU": 0.80,
    "masks: number": 0.93,
    "masks: IoU": 0.75,
    "words": 0.90,
    "sure: precision": 0.90,
    "sure: recall": 0.90,
}
IOUS = {"boxes: IoU", "masks: IoU"}
NOTE = (
    "Percentages, and mean IoU from 0 to 1 in which a missing object counts 0; in parentheses, of how many. "
    "`sure` is a score of 0.5 or more. * is below what is wanted."
)


class Report:
    def __init__(self, categories):
        self.categories = categories
        self.values = defaultdict(list)  # by category and measure
        self.kinds = defaultdict(list)  # by measure and kind

    def add(self, category, prompt, values):
        for measure, value in values:
            self.values[category, measure].append(float(value))
            if measure in WANTED and not measure.startswith("sure"):
                self.kinds[measure, prompt.kind].append(float(value))

    def by_category(self):
        """Rows of cells: a header, what is wanted, all, and one row per category."""
        measures = [m for m in WANTED if any(m == measure for _, measure in self.values)]
        rows = [["category", *measures], ["wanted", *(f"≥ {_number(m, WANTED[m])}" for m in measures)]]
        rows.append(["all", *(self._cell(m, self._all(m)) for m in measures)])
        for category in (c for c in self.categories if any(c == asked for asked, _ in self.values)):
            rows.append([category, *(self._cell(m, self.values.get((category, m), [])) for m in measures)])
        return rows

    def by_kind(self):
        """Rows of cells: the same answers by kind of question, caption and number of phrases."""
        rows = [["measure", "kind", "reached"]]
        for measure in WANTED:
            for kind in sorted(kind for m, kind in self.kinds if m == measure):
                rows.append([measure, kind, self._cell(measure, self.kinds[measure, kind])])
        return rows

    def _all(self, measure):
        return [v for (_, m), values in self.values.items() if m == measure for v in values]

    def _cell(self, measure, values):
        if not values:
            return ""
        low = "*" if np.mean(values) < WANTED[measure] else ""
        return f"{_number(measure, np.mean(values))}{low} ({len(values):,})"


def _number(measure, mean):
    return f"{mean:.2f}" if measure in IOUS else f"{100 * mean:.1f}"


def text(rows):
    """In columns, for a terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
