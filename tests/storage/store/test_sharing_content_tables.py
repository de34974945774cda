"""The tables of sharing and content are as they are declared."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.layer_sharing import LayerSharingSettings
from indexscope.analysis.layer_sharing import run as layer_sharing
from indexscope.analysis.layer_sharing.collect import sharing_collector
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content import run as token_content
from indexscope.analysis.token_content.collect import content_collector
from indexscope.analysis.token_content.examples import example_collector
from indexscope.tasks.common.tables import declared
from tests.analysis.conftest import tiny_dsa
from tests.analysis.samples import samples
from tests.declared import check


@pytest.fixture(scope="module")
def tables() -> dict[tuple[str, str], pl.DataFrame]:
    source = as_source(tiny_dsa())
    makers = [sharing_collector(), content_collector(np.zeros(97, np.int8)), example_collector(None, [0])]
    attempt = Attempt(source, ExtractSettings(chunk=16, device="cpu"), Journal())
    found = collect_samples(source, samples(40, 30), makers, 6, attempt)
    return {
        **{("closeups", name): frame for name, frame in found.items()},
        **{
            ("analyses/layer_sharing", name): frame
            for name, frame in layer_sharing.run(found, LayerSharingSettings()).items()
        },
        **{
            ("analyses/token_content", name): frame
            for name, frame in token_content.run(found, TokenContentSettings()).items()
        },
    }


def test_frames_are_as_declared_and_floats_have_units(tables: dict[tuple[str, str], pl.DataFrame]) -> None:
    assert len(tables) == 11
    for (kind, name), frame in tables.items():
        assert frame.height > 0
        table = declared()[kind, name]
        check(frame, table)
        for column in table.columns:
            assert column.unit or not frame[column.name].dtype.is_float() or name == "per_sample", column
