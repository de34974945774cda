"""The tables of sharing and content hold the columns that are described, in the order that is told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from analysis import content, sharing
from analysis.capture.journal import Journal
from analysis.capture.protocol import as_source
from analysis.features.attempt import Attempt
from analysis.probe.content import content_collector
from analysis.probe.examples import example_collector
from analysis.probe.run import collect_samples
from analysis.probe.sharing import sharing_collector
from analysis.settings import ContentSettings, ExtractSettings, SharingSettings
from storage.schemas import schema
from tests.analysis.conftest import tiny_dsa
from tests.analysis.samples import samples


@pytest.fixture(scope="module")
def tables() -> dict[tuple[str, str], pl.DataFrame]:
    source = as_source(tiny_dsa())
    makers = [sharing_collector(), content_collector(np.zeros(97, np.int8)), example_collector(None, [0])]
    attempt = Attempt(source, ExtractSettings(chunk=16, device="cpu"), Journal())
    found = collect_samples(source, samples(40, 30), makers, 6, attempt)
    return {
        **{("probes", name): frame for name, frame in found.items()},
        **{("analyses/sharing", name): frame for name, frame in sharing.run(found, SharingSettings()).items()},
        **{("analyses/content", name): frame for name, frame in content.run(found, ContentSettings()).items()},
    }


def test_every_column_is_described_and_floats_have_units(tables: dict[tuple[str, str], pl.DataFrame]) -> None:
    assert len(tables) == 11
    for place, frame in tables.items():
        known = schema(*place)
        assert known is not None, place
        assert frame.height > 0
        assert {column.name for column in known.columns} == set(frame.columns), place
        for name, kind in frame.schema.items():
            column = known.column(name)
            assert column is not None
            assert column.unit or not kind.is_float() or place[1] == "per_sample", (place, name)


def test_keys_tell_rows_apart_and_order_those_that_say_so(tables: dict[tuple[str, str], pl.DataFrame]) -> None:
    for place, frame in tables.items():
        known = schema(*place)
        assert known is not None
        rows = frame.select(known.key).rows()
        assert len(set(rows)) == len(rows), place
        if known.ordered:
            assert rows == sorted(rows), place
