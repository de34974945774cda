"""The cores that a worker takes."""

from __future__ import annotations

import os

import pytest
import torch

from indexscope.tasks.common.models import cores, share_cores


@pytest.mark.parametrize(("allowed", "expected"), [("1", 1), ("2,1", 2), ("64", 8), ("", 8), ("0", 8), ("many", 8)])
def test_the_threads_that_the_user_allows_bound_the_cores(
    monkeypatch: pytest.MonkeyPatch, allowed: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert cores() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cores() == 8


def test_workers_share_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    before = torch.get_num_threads()
    try:
        share_cores(2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
