"""The guide's ways to write a dump give one that is read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from indexscope.storage.inputs.selections.dumps import list_records, open_rows

GUIDE = Path(__file__).parents[4] / "docs" / "selections.md"


def test_what_the_guide_writes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dumps" / "port").mkdir(parents=True)
    selected = np.array([[[0, -1], [0, -1]], [[1, 0], [0, 1]], [[0, 2], [2, 1]]], dtype=np.int32)
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, {"ids": [5, 6, 7], "selected": selected})
    for path, form in (("dumps/port", "npz"), ("dumps/port.parquet", "parquet")):
        (found,) = list_records(path, form)  # type: ignore[arg-type]
        assert found.ids.tolist() == [5, 6, 7]
        read = open_rows(found.record).read(0, 3).reshape(3, 2, 2)
        assert np.sort(read, axis=-1).tolist() == np.sort(selected, axis=-1).tolist()
