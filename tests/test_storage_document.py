"""The examples of docs/storage.md are run on a real small store, and its tables are those that are declared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.features.columns import FEATURES
from indexscope.storage.store.store import Store, step_key
from indexscope.tasks.common.tables import document

TEXT = (Path(__file__).parents[1] / "docs" / "storage.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "selections" not in block]


@pytest.fixture
def means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Two steps of two shards in the working directory, and the mean nll of each by digest."""
    monkeypatch.chdir(tmp_path)
    store, found = Store(".indexscope"), {}
    for model, shift in (("base", 0.0), ("light", 1.0)):
        key = step_key("features", {"checkpoint": model})
        for shard, (nll, tokens) in enumerate([(2.0, 1), (4.0, 3)]):
            frame = pl.DataFrame({"sample": [shard], "bucket": [0], "tokens": [tokens], "nll": [nll + shift]})
            store.commit(key, f"shard-{shard:05}", {"tokens": frame}, label=model, described=FEATURES)
        found[key.digest] = 3.5 + shift
    return found


def test_the_examples_give_the_weighted_means(means: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        exec(compile(block, "docs/storage.md", "exec"), names)
    assert dict(names["by_polars"].rows()) == means
    assert dict(names["by_duckdb"]) == means
    assert names["by_pandas"] == means
    assert (
        capsys.readouterr().out
        == "Negative log-likelihood of the next token, with the model's own selection. nats tokens\n"
    )


def test_the_tables_of_columns_are_generated() -> None:
    assert TEXT.partition("<!-- columns -->\n")[2].strip() == document().strip()
