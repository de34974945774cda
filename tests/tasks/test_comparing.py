"""What the report takes for granted of every step that compares."""

from __future__ import annotations

import pytest

from indexscope.analysis.metrics.tables import PAIRED
from indexscope.tasks.common.registry import STEPS, made_by
from indexscope.tasks.common.tables import declared


@pytest.mark.parametrize("step", made_by("compare"))
def test_the_first_column_of_what_compares_names_the_model_and_its_metrics_are_in_one_form(step: str) -> None:
    tables = {name: table for (kind, name), table in declared().items() if kind == STEPS[step].kind}
    assert tables
    assert {next(iter(table.schema)) for table in tables.values()} <= {"candidate", "model"}
    assert tables.get("metrics", PAIRED).schema == PAIRED.schema
