"""The code blocks of the documentation, and the answers that it shows for them."""

import re
from dataclasses import dataclass

from server import ROOT

# Stands on the line before a block that can't be run here, with the reason.
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
TESTED = re.compile(r"<!-- tested: (\S+) -->")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    place: str  # such as docs/python.md:12
    language: str
    code: str
    mark: str  # the line before it
    answer: str | None = None  # of the block right after it
    answer_language: str = ""


def blocks(file):
    """All blocks of code in a file, each with its answer."""
    text = (ROOT / file).read_text()
    found, last_end = [], 0
    for match in FENCE.finditer(text):
        language, code = match.groups()
        between = text[last_end : match.start()]
        last_end = match.end()
        if found and not between.strip() and language in ("", "json"):
            found[-1].answer, found[-1].answer_language = code, language
            continue
        before = text[: match.start()].rstrip().splitlines()
        place = f"{file}:{text[: match.start()].count(chr(10)) + 1}"
        found.append(Block(place, language, code, before[-1] if before else ""))
    return found


def page(file, name):
    """The web page that is marked as tested under this name."""
    [block] = [block for block in blocks(file) if TESTED.fullmatch(block.mark) and name in block.mark]
    return block.code
