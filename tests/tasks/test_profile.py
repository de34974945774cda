"""Claims about the profile's step: it knows the whole study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from indexscope.tasks.common.declared import Parcel
from indexscope.tasks.profile import STEP
from tests.analysis.conftest import tiny_dsa


def test_a_study_is_timed_at_its_own_lengths_within_a_share_of_all_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(lambda _: None)

    @contextmanager
    def running(_: object) -> Iterator[Any]:
        yield CapturedModel(tiny_dsa()), journal, lambda: {"notes": list(journal.notes)}

    monkeypatch.setattr("indexscope.tasks.profile.running", running)
    monkeypatch.setattr("indexscope.analysis.capture.repeats.NARROW", 0.0)
    samples = [Sample(index, f"document {index}", (1,) * (40 if index == 29 else 20)) for index in range(30)]
    given: Any = SimpleNamespace(extract=ExtractSettings(profile_repeats=1))
    job: Any = SimpleNamespace(given=given, samples=Parcel(STEP.samples(samples, given)), checkpoint=None)
    made = STEP.compute(job, None)  # type: ignore[arg-type]
    rows = made.tables["profile"].filter(pl.col("component") == "model")
    assert (rows["length"].to_list(), rows["repeats"].to_list(), made.facts["notes"]) == ([10, 20, 40], [1] * 3, [])
    given.extract = ExtractSettings()
    (note,) = STEP.compute(job, None).facts["notes"]  # type: ignore[arg-type, misc]
    assert note.startswith("forwards timed at each length: 1, not 5, which would run more than 10% of the study's 620 ")
