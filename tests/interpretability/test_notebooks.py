"""The example notebooks run as they are, and find again what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def said(notebook: Any) -> list[str]:
    """What each cell prints, "" where that is nothing."""
    texts = []
    for cell in notebook.cells:
        printed = [found for found in cell.get("outputs", ()) if found.output_type == "stream"]
        texts.append("".join(found.text for found in printed if found.name == "stdout"))
    return texts


def pictures(notebook: Any) -> int:
    return sum("image/png" in found.get("data", {}) for cell in notebook.cells for found in cell.get("outputs", ()))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("sparse_against_classic", "What sparse attention loses follows how widely the classic attention reads"),
        ("indexer_before_and_after", "of the baseline's recall"),
    ],
)
def test_a_notebook_runs_and_finds_again_what_it_says(name: str, answer: str, tmp_path: Path) -> None:
    written = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    fresh = nbformat.from_dict({**written, "cells": [{**cell} for cell in written.cells]})
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(fresh, timeout=300, kernel_name="python3", resources=resources).execute()
    assert answer in said(fresh)[-1]
    for before, after in zip(said(written), said(fresh), strict=True):
        assert NUMBER.sub("#", after) == NUMBER.sub("#", before)
        assert [float(number) for number in NUMBER.findall(after)] == pytest.approx(
            [float(number) for number in NUMBER.findall(before)], rel=0.02, abs=0.002
        )
    assert pictures(fresh) == pictures(written) >= 3
