"""Lines outlast a crash, but for the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexscope import IndexscopeError
from indexscope.storage.store.lines import open_lines


def test_what_was_added_is_there_and_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "lines.jsonl"
    with open_lines(file) as lines:
        assert lines.known == []
        lines.add({"a": 1})
        assert file.read_bytes() == b'{"a":1}\n', "on the disk before the file is closed"
        lines.add({"b": [0.1, 1e-17]})
    with file.open("ab") as torn:
        torn.write(b'{"c": 3')
    with open_lines(file) as lines:
        assert lines.known == [{"a": 1}, {"b": [0.1, 1e-17]}]
        lines.add({"d": 4})
    with open_lines(file) as lines:
        assert lines.known == [{"a": 1}, {"b": [0.1, 1e-17]}, {"d": 4}]


@pytest.mark.parametrize("damage", [b"nonsense\n", b"[1]\n", b"\xff\n"])
def test_a_damaged_line_in_the_middle_is_told_in_one_line(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"a":1}\n' + damage + b'{"b":2}\n')
    with pytest.raises(IndexscopeError, match=r"lines.jsonl:2: is damaged"), open_lines(file):
        pass


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IndexscopeError, match="cannot be written"), open_lines(tmp_path / "file" / "lines.jsonl"):
        pass
