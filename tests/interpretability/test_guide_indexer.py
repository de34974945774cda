"""The guide's code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "notebooks-indexer.md"


def test_the_guides_first_block_runs_as_printed(capsys) -> None:
    first, second = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(first, names)
    told = capsys.readouterr().out
    assert told.startswith("token selection: light against baseline, n = 2 paired samples\n")
    assert "  selection_recall" in told and "  word_start_lift" in told and "  indexer_flops" in told
    assert "IndexerHeads of own, n = 1 sample\n" in told and told.count("layer 0: ") == 1
    assert names["selection"].in_effect > 0.5
    assert "load(" in second
