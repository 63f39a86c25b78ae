"""The code blocks of a page, in order, for the tests that run them."""

import re
from dataclasses import dataclass

from tests.support.paths import ROOT


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: what stands behind the fence: sh, python, text …
        code: its lines.
        heading: the heading above it.
    """

    language: str
    code: str
    heading: str


def read_blocks(page: str) -> list[Block]:
    """Read the blocks of a Markdown page, given by its path from the repository's root."""
    blocks, heading = [], ""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found[1]:
            heading = found[1]
        else:
            blocks.append(Block(found[2], found[3], heading))
    return blocks
