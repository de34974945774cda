"""What a study measures of a module of one's own: as with a trace, and operations as they are counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn

from indexscope.analysis.capture import Trace, TracedModel, as_source
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.look import look_ids
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.features import extract_samples
from indexscope.analysis.plugins.extract import extract_plugin_features
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from indexscope.plugins import Plugin
from tests.analysis.capture.plain_modules import HEADS, VOCABULARY, WIDTH, K, Lightning, Plain, Told, causal
from tests.analysis.capture.research_model import ResearchModel
from tests.analysis.samples import samples

LENGTHS = (32, 65)
SETTINGS = ExtractSettings(chunk=16, profile_lengths=LENGTHS, profile_repeats=1)
#: FLOPs of two layers of attention over L tokens, and of what turns their outcome into logits.
ATTENTION: Callable[[int], int] = lambda n: 2 * (2 * n * WIDTH * 4 * WIDTH + 2 * WIDTH * 2 * n * n)  # noqa: E731
HEAD: Callable[[int], int] = lambda n: 2 * n * WIDTH * VOCABULARY  # noqa: E731
#: Two indexers of 3 heads of width 8; the weighted sum is no matrix product.
INDEXER: Callable[[int], int] = lambda n: 2 * (2 * n * WIDTH * (3 * 8 + 8 + 3) + 2 * 3 * 8 * n * n)  # noqa: E731


class Telling(Plain):
    """The same module with a trace written by hand."""

    def __init__(self, kind: str, index_topk: int | None, **how: object) -> None:
        super().__init__(kind, **how)  # type: ignore[arg-type]
        self.vocabulary, self.index_topk = VOCABULARY, index_topk

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        told = Told(self, self.index_topk).trace(input_ids, select)
        return replace(told, logits=told.logits[0] if self.within == "tuple" else told.logits)


class Inline(ResearchModel):
    """An indexer that is a few lines of the attention's own forward."""

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ResearchModel.trace(self, input_ids).logits, None, None


class Torch(nn.Module):
    """torch's own attention, twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in range(2)])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        for layer in self.layers:
            x = x + layer(x, x, x, attn_mask=~causal(input_ids.shape[1]), need_weights=False)[0]
        return x @ self.tokens.weight.T


KINDS: dict[str, tuple[str, int | None, dict[str, object]]] = {
    "an indexer": ("bool", K, {}),
    "one module for all layers, logits in a tuple": ("by hand", K, {"shared": True, "within": "tuple"}),
    "a share of the keys": ("ratio", int(0.3 * 513), {}),
    "top-k of its own logits": ("topk", K, {}),
    "softmax written by hand": ("einsum", None, {}),
    "a sliding window": ("window", None, {}),
}


LARGEST = Plugin("largest", "share", "Largest weight.", "neither", lambda rows: rows.p.amax(-1), file="own.py")


def untold(model: nn.Module) -> nn.Module:
    """The module without its trace."""

    class Untold(type(model)):  # type: ignore[misc]
        trace = index_topk = None

    model.__class__ = Untold
    return model.eval()


def measured(model: nn.Module) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """All tables that a study makes of a model but what is timed, and the notes."""
    journal, source, one = Journal(lambda _: None), as_source(model), samples(45, 33)
    profile = profile_model(source, SETTINGS, journal).sort("component", "length")
    tables = {
        "facts": model_facts(source).drop("family"),
        "layers": layer_facts(source),
        "profile": profile.select(~pl.selectors.starts_with("milliseconds")),
        "audit": audit_causality(model, [one[0].input_ids]),
        **extract_samples(source, one, SETTINGS, journal),
        **extract_plugin_features(source, one, SETTINGS, [LARGEST], journal),
        **closeup_samples(source, one, CloseupSettings(queries=8, rerun_samples=0), SETTINGS, journal),
    }
    return tables, journal.notes


@pytest.mark.parametrize("name", KINDS)
def test_every_table_of_a_study_is_that_of_the_same_model_with_a_trace(name: str) -> None:
    kind, k, how = KINDS[name]
    model = Telling(kind, k, **how).eval()
    told, expected = measured(model)[0], measured(untold(model))[0]
    assert told.keys() == expected.keys() >= {"tokens", "profile", "selection_stability", "plugin_attention"}
    for table, frame in told.items():
        columns = [column for column in frame.columns if column != "sketch"]
        assert_frame_equal(expected[table].select(columns), frame.select(columns), rel_tol=1e-6, abs_tol=1e-6)


def profiled(model: nn.Module) -> tuple[dict[tuple[str, int], dict[str, object]], list[str]]:
    journal = Journal(lambda _: None)
    rows = profile_model(model, SETTINGS, journal).iter_rows(named=True)
    return {(str(row["component"]), int(row["length"])): row for row in rows}, journal.notes


@pytest.mark.parametrize("name", [*KINDS, "torch's own"])
def test_counted_operations_are_those_of_every_product_by_hand(name: str) -> None:
    kind, k, how = KINDS.get(name, ("", None, {}))
    rows, notes = profiled(Plain(kind, **how) if kind else Torch())  # type: ignore[arg-type]
    selecting = kind in ("bool", "by hand", "ratio")
    for length in LENGTHS:
        # top-k of its own logits multiplies queries and keys once more
        attention = ATTENTION(length) + (2 * 2 * WIDTH * length**2 if kind == "topk" else 0)
        indexer = INDEXER(length) if selecting else 0
        assert rows["attention", length]["flops_counted"] == attention
        assert rows["model", length]["flops_counted"] == attention + indexer + HEAD(length)
        assert (("indexer", length) in rows) == (("selection", length) in rows) == selecting
        if selecting:
            assert rows["indexer", length]["flops_counted"] == indexer
            # float32 scores and int64 places of one layer
            assert rows["selection", length]["peak_bytes"] == length * int(0.3 * length if kind == "ratio" else k) * 12
    assert all(row["flops_formula"] is row["flops_executed"] is None for row in rows.values())
    assert all(row["milliseconds"] > 0 and row["peak_bytes"] > 0 for row in rows.values())  # type: ignore[operator]
    assert len(notes) == (kind == "topk")


def facts(model: object) -> dict[str, object]:
    return model_facts(model).row(0, named=True)  # type: ignore[arg-type]


def test_a_module_shared_by_all_layers_counts_once_in_parameters() -> None:
    one, two = facts(Plain("by hand", shared=True)), facts(Plain("by hand"))
    indexer, attention = 36 * WIDTH + 3 * 8 + 8 + 3 - WIDTH, 4 * WIDTH * WIDTH + 4 * WIDTH
    assert (one["indexer_parameters"], one["attention_parameters"]) == (indexer, attention)
    assert (two["indexer_parameters"], two["attention_parameters"]) == (2 * indexer, 2 * attention)
    assert (one["layers"], one["indexer_layers"]) == (2, 2)
    for found in (one, two):
        assert (found["indexer_heads"], found["indexer_dim"], found["index_topk"], found["entry"]) == (3, 8, K, None)


def test_an_indexer_inside_the_attention_is_null_and_said_to_be_within_it() -> None:
    model = Inline().eval()
    rows, notes = profiled(model)
    assert {component for component, _ in rows} == {"attention", "model"}
    (note,) = notes
    assert note.startswith("Inline: its topk is called by DsaLayer, which attends itself") and "null" in note
    found = facts(model)
    assert (found["indexer_parameters"], found["indexer_heads"], found["indexer_dim"]) == (None, 8, 8)
    assert found["attention_parameters"] == sum(each.numel() for each in model.layers.parameters())
    for length in LENGTHS:
        pairs = 2 * WIDTH * 2 + 2 * 8 * 8 + 2 * 8
        expected = 2 * (2 * length * WIDTH * (4 * WIDTH + 8 * 8 + 8 + 8) + pairs * length**2)
        assert rows["attention", length]["flops_counted"] == expected


class Beside(nn.Module):
    """Attention in a module of its own, and beside it what selects for it: ``name`` is what that is called."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.name = nn.Embedding(VOCABULARY, WIDTH), name
        self.add_module(name, Selector())
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        mask = ~(getattr(self, self.name)(x) & causal(x.shape[1])).repeat_interleave(HEADS, 0)
        return (x + self.attention(x, x, x, attn_mask=mask)[0]) @ self.tokens.weight.T


class Selector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lightning = Lightning()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lightning(x)[1]


@pytest.mark.parametrize("name", ["indexer", "chooser"])
def test_what_selects_is_found_by_its_name_or_by_its_topk_and_its_time_is_not_taken_from_the_attention(
    name: str,
) -> None:
    model = Beside(name).eval()
    rows, notes = profiled(model)
    assert notes == []
    assert facts(model)["indexer_parameters"] == sum(each.numel() for each in Lightning().parameters())
    for length in LENGTHS:
        assert rows["indexer", length]["flops_counted"] == INDEXER(length) / 2
        assert rows["attention", length]["flops_counted"] == ATTENTION(length) / 2
        assert rows["attention", length]["milliseconds"] > 0  # type: ignore[operator]


class AttentionIndexer(nn.Module):
    """A whole model that calls itself an indexer, and attends in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.qkv = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return (x + out.transpose(1, 2).reshape(x.shape)) @ self.tokens.weight.T


@pytest.mark.parametrize("wrapped", [False, True])
def test_attention_in_the_models_own_forward_is_null_with_one_note(wrapped: bool) -> None:
    model = AttentionIndexer().eval()
    rows, notes = profiled(nn.Sequential(model) if wrapped else model)
    assert {component for component, _ in rows} == {"model"}
    assert len(notes) == 1 and "attention is computed by AttentionIndexer itself, in no module of its own" in notes[0]
    found = facts(model)
    assert (found["attention_parameters"], found["indexer_parameters"], found["indexer_layers"]) == (None, 0, 0)


def test_a_model_that_only_has_a_trace_is_timed_by_it_up_to_where_its_positions_end() -> None:
    journal = Journal(lambda _: None)
    settings = ExtractSettings(profile_lengths=(32, 200), profile_repeats=1)
    rows = profile_model(ResearchModel().eval(), settings, journal)
    assert rows["length"].unique().to_list() == [32]
    assert "its trace is timed and counted instead" in journal.notes[0]
    assert journal.notes[-1].startswith("no latency at 200 tokens: its forward fails (")


def test_what_is_no_module_has_nothing_but_the_whole() -> None:
    rows, notes = profiled(Told(Plain("bool").eval()))  # type: ignore[arg-type]
    assert {component for component, _ in rows} == {"model"}
    assert len(notes) == 2 and "is no torch module" in notes[1]
    found = facts(Told(Plain("bool").eval()))
    assert found["parameters"] is found["attention_parameters"] is found["indexer_parameters"] is None
    assert (found["layers"], found["index_topk"]) == (2, K)


class Probabilities(Telling):
    """Tells its dense attention and nothing of how it came about."""

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        told = super().trace(input_ids, select)
        layers = []
        for layer in told.layers:
            logits = layer.query @ layer.key.transpose(2, 3) * layer.scale
            p = logits.masked_fill(~causal(input_ids.shape[1]), -torch.inf).softmax(-1)
            layers.append(replace(layer, probabilities=p, query=None, key=None, scale=None, value=None))
        return Trace(told.logits, layers)


def test_widths_that_nobody_tells_are_null() -> None:
    model = Probabilities("bool", K).eval()
    layers, found = layer_facts(model), facts(model)
    for row in (found, *layers.iter_rows(named=True)):
        assert (row["attention_heads"], row["key_width"], row["value_width"]) == (HEADS, None, None)


@pytest.mark.parametrize("kind", ["bool", "topk", "dense", "probabilities"])
def test_the_cost_of_code_that_nobody_has_read_has_no_formula_but_what_is_measured(kind: str) -> None:
    model = Probabilities("dense", None) if kind == "probabilities" else Plain(kind)
    source = as_source(model.eval())
    tables = extract_samples(source, samples(45), SETTINGS)
    tables |= {"facts": model_facts(source), "layers": layer_facts(source), "profile": profile_model(source, SETTINGS)}
    found = efficiency.run(tables, EfficiencySettings(resamples=10))
    values = dict(found["metrics"].select("metric", "value").iter_rows())
    assert values["model_latency_ms"] > 0 and values["model_parameters"] == sum(x.numel() for x in model.parameters())
    assert values["efficiency_score"] is None
    by_formula = {"indexer_flops", "attention_flops", "dense_attention_flops", "relative_cost", "break_even_length"}
    known = {name for name in by_formula if values.get(name) is not None}
    # without a selection, pairs need no reading of the code, but widths
    assert known == ({"attention_flops", "dense_attention_flops", "relative_cost"} if kind == "dense" else set())
    assert found["projection"].is_empty() == (kind != "dense") and found["conventions"].is_empty()


def test_reruns_of_a_whole_sequence_model_are_null_with_a_reason_and_its_scores_are_judged() -> None:
    journal = Journal(lambda _: None)
    settings = CloseupSettings(queries=8, rerun_samples=1)
    found = closeup_samples(TracedModel(Plain("bool").eval()), samples(45, 40), settings, SETTINGS, journal)
    assert found["output_stability"].is_empty() and found["selection_rerun"].is_empty()
    assert len(journal.notes) == 1 and "another chunk means nothing to it" in journal.notes[0]
    stable = found["selection_stability"]
    assert set(stable["variant"]) == {"ties", "bfloat16", "float16", "fp8", "int8"}
    assert stable["changed"].is_not_null().all() and stable.filter(pl.col("variant") == "int8")["changed"].max() > 0


def test_a_short_look_is_as_long_as_the_selection_of_code_that_cannot_pick_more_keys_than_there_are() -> None:
    class Unguarded(Telling):
        def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
            assert input_ids.shape[1] >= K, "selected index k out of range"
            return super().trace(input_ids, select)

    tables = extract_samples(Unguarded("bool", K).eval(), samples(45), ExtractSettings(chunk="auto"))
    assert tables["indexer"].height


def test_how_many_tokens_a_model_takes_is_tried_once() -> None:
    lengths: list[int] = []

    class Counting(Telling):
        def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
            lengths.append(input_ids.shape[1])
            return super().trace(input_ids, select)

    source = TracedModel(Counting("bool", K).eval())
    assert torch.equal(look_ids(source), look_ids(source))
    assert lengths == [129]
    model_facts(source)
    assert lengths == [129, 129]
