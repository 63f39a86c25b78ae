"""docs/items.md as a whole, Feast included: what a shop ranks by looked-up vectors is of the basket's kind."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.e2e.test_items_page import BLOCKS, GROUPS, run_blocks
from tests.engines import install
from tests.engines.feast_stores import FEAST

pytestmark = pytest.mark.engines


def test_offers_go_with_the_basket(tmp_path: Path) -> None:
    printed = run_blocks(tmp_path, BLOCKS, install.python_env("feast", FEAST))
    offers = ast.literal_eval(printed["In Feast, python"])
    assert len(offers) == 5
    assert set(offers) < GROUPS["Yeast"] - {"Bread Flour", "Yeast"}
