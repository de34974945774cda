"""The machine that timings were taken on is told well enough to tell two apart."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from indexscope.flows.study.provenance import machine, processor


def test_a_processor_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    told = tmp_path / "cpuinfo"
    told.write_text(
        "processor\t: 0\nmodel name\t: Made Up 9000 @ 2.00GHz\nflags\t: fpu\nprocessor\t: 1\nmodel name\t: B\n"
    )
    assert processor(told) == "Made Up 9000 @ 2.00GHz (x86_64)"
    assert processor(tmp_path / "none") == "x86_64"
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert processor(tmp_path / "none") == "arm (x86_64)"


def test_an_accelerator_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card 1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "accelerator" not in machine("cuda"), "a cluster may have run the models"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine("cuda")["accelerator"] == "Card 1"
    assert "accelerator" not in machine("cpu") and machine("cpu")["cores"] == 1
