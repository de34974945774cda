"""Claims about excerpts."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content import run as token_content
from indexscope.analysis.token_content.examples import example_collector
from indexscope.analysis.token_content.tables import EXAMPLES
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.closeup.rows_of import planted_rows
from tests.analysis.samples import samples


def collected(length: int, chunks: list[list[CloseupRows]], pieces: list[str] | None = None) -> pl.DataFrame:
    collector = example_collector(pieces, [4])(CloseupSample(4, "planted", torch.arange(length)))
    for chunk in chunks:
        collector.add(chunk)
    return collector.tables()["examples"]


def test_the_query_of_median_recall_is_shown_with_its_selection() -> None:
    selected = np.zeros((3, 30), dtype=bool)
    selected[:, 5] = selected[:, 7] = True
    p = np.zeros((3, 30))
    p[:, 5], p[:, 7] = [0.1, 0.6, 0.3], 0.05
    scores = np.full((3, 30), -np.inf)
    scores[:, 5] = 2.5
    found = collected(30, [[planted_rows(2, [10, 20, 29], selected, p, scores=scores)]], [f" t{n}" for n in range(30)])
    assert found["query"].unique().to_list() == [29]
    assert found["position"].to_list() == list(range(30))
    assert found["token"].to_list()[:2] == [" t0", " t1"]
    assert found.filter("selected")["position"].to_list() == [5, 7]
    row = found.row(5, named=True)
    assert (row["sample"], row["layer"], row["score"], row["outside"]) == (4, 2, 2.5, 0)
    assert np.isclose(row["recall"], 0.35) and np.isclose(row["attention"], 0.3)
    assert found["score"].null_count() == 29


def test_what_is_not_shown_of_a_long_text_is_counted() -> None:
    selected = np.zeros((1, 600), dtype=bool)
    selected[0, [10, 11, 300, 599]] = True
    p = np.full((1, 600), 1e-4)
    p[0, 300] = 0.5
    found = collected(600, [[planted_rows(0, [599], selected, p, own=False)]])
    assert found.height == 160 and found["outside"].unique().to_list() == [2]
    assert found.filter("selected")["position"].to_list() == [300, 599]
    assert found["token"].to_list()[-1] == "id 599"
    assert found["score"].null_count() == 160


def test_only_chosen_samples_and_queries_in_effect_are_shown() -> None:
    everything = [planted_rows(0, [9], np.ones((1, 10), dtype=bool), np.full((1, 10), 0.1))]
    dense = [planted_rows(0, [9], None, np.full((1, 10), 0.1))]
    for chunk in (everything, dense):
        assert collected(10, [chunk]).is_empty()
    other = example_collector(None, [5])(CloseupSample(4, "planted", torch.arange(10)))
    other.add([planted_rows(0, [9], np.eye(1, 10, dtype=bool), np.full((1, 10), 0.1))])
    assert dict(other.tables()["examples"].schema) == EXAMPLES.schema and other.tables()["examples"].is_empty()


def test_half_characters_from_a_tokenizer_do_not_break_the_table() -> None:
    chunk = [planted_rows(0, [1], np.eye(1, 2, dtype=bool), np.full((1, 2), 0.5))]
    assert collected(2, [chunk], ["\ud800", "b"])["token"].to_list() == ["?", "b"]


def test_real_layers_show_one_query_each_and_the_analysis_passes_them_on() -> None:
    source = as_source(FAMILIES["glm_moe_dsa"]().eval())
    attempt = Attempt(source, ExtractSettings(chunk=16, device="cpu"), Journal())
    tables = collect_samples(source, samples(40, 30, 35), [example_collector(None, [0, 2])], 6, attempt)
    pairs = tables["examples"].select("sample", "layer", "query").unique()
    assert sorted(pairs.select("layer", "sample").rows()) == [
        (layer, sample) for layer in range(4) for sample in (0, 2)
    ]
    selected = tables["examples"].filter("selected").group_by("sample", "layer").len()
    assert selected["len"].unique().to_list() == [8]
    assert token_content.run(tables, TokenContentSettings())["examples"].equals(tables["examples"])
