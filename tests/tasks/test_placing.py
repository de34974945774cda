"""Where a checkpoint's weights are while it runs."""

from __future__ import annotations

import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import CheckpointFolder, builtin_names, resolve
from indexscope.tasks.common.placing import placed
from tests.analysis.samples import samples


@pytest.mark.parametrize("name", builtin_names())
def test_features_of_the_built_in_models_are_the_same_bits_streamed(name: str) -> None:
    settings = ExtractSettings(chunk=64, device="cpu")
    origin = CheckpointFolder(str(resolve(f"builtin:{name}")))
    found, expected = (
        extract_samples(placed(origin, settings, kind), samples(150, 90), settings)  # type: ignore[arg-type]
        for kind in ("stream", "whole")
    )
    assert found.keys() == expected.keys()
    for table, frame in expected.items():
        assert_frame_equal(found[table], frame, check_exact=True)
