"""A plain module is watched with the numbers of a trace written by hand, and nothing of it is changed."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn
from torch.nn import functional

from indexscope import IndexscopeError
from indexscope.analysis.capture import TracedModel, as_source
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from tests.analysis.capture.plain_modules import VOCABULARY, WIDTH, Attention, K, Plain, Told, causal
from tests.analysis.samples import samples

SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6, sparsity_threshold=0.02)
SELECTING = ["bool", "float", "by hand", "topk", "after", "latent"]
DENSE = ["dense", "window", "gqa", "einsum"]


def same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame], *names: str) -> None:
    for name in names or expected:
        columns = [column for column in expected[name].columns if column != "sketch"]
        assert expected[name].height
        assert_frame_equal(found[name].select(columns), expected[name].select(columns), rel_tol=1e-5, abs_tol=1e-6)


@pytest.mark.parametrize("kind", [*SELECTING, *DENSE])
def test_a_plain_module_has_the_tables_of_a_trace_written_by_hand(kind: str) -> None:
    model, one = Plain(kind).eval(), samples(45, 5, 2, 1)
    source = as_source(model)
    found = extract_samples(source, one, SETTINGS)
    expected = extract_samples(Told(model, K if kind in SELECTING else None), one, SETTINGS)
    assert sorted(found) == sorted(expected)
    same(found, expected)
    assert source.index_topk == (K if kind in SELECTING else None)
    assert (source.vocabulary, source.family) == (VOCABULARY, "Plain")
    assert source.notes == (() if kind != "topk" else source.notes)
    dense = found["tokens"]["dense_nll"]
    assert dense.is_not_null().all() if kind in SELECTING else dense.is_null().all()


def test_one_layer_for_all_is_watched_each_time_it_is_called() -> None:
    model, one = Plain("by hand", shared=True).eval(), samples(40)
    found = extract_samples(model, one, SETTINGS)
    same(found, extract_samples(Told(model), one, SETTINGS))
    assert found["attention"]["layer"].unique().to_list() == [0, 1]


@pytest.mark.parametrize("within", ["tuple", "mapping"])
def test_logits_are_those_of_the_module_wherever_they_stand(within: str) -> None:
    model, ids = Plain(within=within).eval(), torch.randint(VOCABULARY, (2, 33))
    with torch.no_grad():
        result = model(ids)
    assert torch.equal(TracedModel(model).trace(ids).logits, result[0] if within == "tuple" else result["logits"])


@pytest.mark.parametrize("kind", ["bool", "by hand"])
def test_the_closeup_sees_heads_scores_and_selections(kind: str) -> None:
    model, one = Plain(kind).eval(), samples(40, 33)
    settings = CloseupSettings(rerun_samples=0)
    found = closeup_samples(model, one, settings, SETTINGS)
    expected = closeup_samples(Told(model), one, settings, SETTINGS)
    assert expected["indexer_heads"].height == 2 * 2 * 3
    same(found, expected, *(name for name in expected if expected[name].height))
    watched = TracedModel(model)
    told = watched.trace(torch.tensor([one[0].input_ids]), head_scores=True)
    for layer, own in zip(told.layers, model.told, strict=True):
        for name in ("scores", "selected", "head_scores", "head_weights"):
            assert torch.equal(getattr(layer, name), getattr(own, name)), name
    assert all(layer.head_scores is None for layer in watched.trace(torch.tensor([one[0].input_ids])).layers)


def test_a_share_of_the_keys_is_a_selection_whose_k_is_said_to_grow() -> None:
    model, one = Plain("ratio").eval(), samples(45)
    source = as_source(model)
    found = extract_samples(source, one, SETTINGS)
    same(found, extract_samples(Told(model, source.index_topk), one, SETTINGS))
    assert source.index_topk == int(0.3 * 513)
    assert len(source.notes) == 1 and "its k grows with the length" in source.notes[0]


def test_a_mask_that_moves_with_the_tokens_is_a_selection_without_scores() -> None:
    model, one = Plain("threshold").eval(), samples(40)
    source = as_source(model)
    found = extract_samples(source, one, SETTINGS)
    same(found, extract_samples(Told(model, source.index_topk), one, SETTINGS))
    assert "scores" not in found
    assert len(source.notes) >= 1 and source.notes[0].startswith(
        "Plain: softmax (attention 0, 1) has a mask that changes with the tokens"
    )


def test_a_leaking_selection_is_shown_and_fails_the_audit() -> None:
    model, one = Plain("leak").eval(), samples(40)
    ids = torch.tensor([one[0].input_ids])
    layer = TracedModel(model).trace(ids).layers[0]
    assert torch.equal(layer.selected, model.told[0].selected) and (layer.selected & ~causal(40)).any()
    audit = audit_causality(model, [one[0].input_ids])
    assert not audit["passed"].item() and audit["future_selected"].item() > 0
    assert_frame_equal(audit, audit_causality(Told(model), [one[0].input_ids]))
    same(extract_samples(model, one, SETTINGS), extract_samples(Told(model), one, SETTINGS))
    assert audit_causality(Plain("float").eval(), [one[0].input_ids])["passed"].item()


class Encoder(nn.Module):
    """torch's own attention."""

    def __init__(self, weights: bool | None, mask: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head, self.mask = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY), mask
        self.weights = weights
        if weights is None:
            self.attention = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True)
        else:
            self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        x = self.tokens(idx)
        mask = nn.Transformer.generate_square_subsequent_mask(idx.shape[1]) if self.mask else None
        if self.weights is None:
            return self.head(self.attention(x, src_mask=mask))
        return self.head(x + self.attention(x, x, x, attn_mask=mask, need_weights=self.weights)[0])


@pytest.mark.parametrize("weights", [True, False, None])
def test_torchs_own_attention_is_seen_inside(weights: bool | None) -> None:
    model, one = Encoder(weights).eval(), samples(40)
    ids = torch.tensor([one[0].input_ids])
    trace = TracedModel(model).trace(ids)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits, model(ids))
        inner = model.attention.self_attn if weights is None else model.attention
        x = model.tokens(ids)
        mask = nn.Transformer.generate_square_subsequent_mask(40)
        expected = inner(x, x, x, attn_mask=mask, average_attn_weights=False)[1]
    (layer,) = trace.layers
    found = (layer.query @ layer.key.transpose(2, 3) * layer.scale).masked_fill(~causal(40), -torch.inf).softmax(-1)
    torch.testing.assert_close(found, expected)
    assert extract_samples(model, one, SETTINGS)["attention"]["output_error"].is_null().all()
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_without_a_mask_is_refused_and_fails_the_audit() -> None:
    model, one = Encoder(False, mask=False).eval(), samples(40)
    with pytest.raises(IndexscopeError, match="put weight on keys after the query"):
        extract_samples(model, one, SETTINGS)
    audit = audit_causality(model, [one[0].input_ids])
    assert not audit["passed"].item() and audit["future_selected"].item() == 40 * 39 // 2


class Mixed(nn.Module):
    """A layer whose selection can be undone below one whose cannot, and a call over other than the S tokens."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.plain = Plain()
        self.plain.layers = nn.ModuleList([Attention(kind) for kind in kinds])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits = self.plain(input_ids)
        pooled = logits[:, :2].unsqueeze(1)
        functional.scaled_dot_product_attention(pooled, pooled, pooled)
        return logits


def test_what_cannot_be_seen_is_null_with_one_note_that_names_the_call() -> None:
    model, one = Mixed("bool", "capped", "capped").eval(), samples(40)
    source = as_source(model)
    tables = extract_samples(source, one, SETTINGS)
    assert tables["attention"]["layer"].unique().to_list() == [0]
    assert tables["tokens"]["dense_nll"].is_null().all() and tables["tokens"]["nll"].is_not_null().all()
    capped, other = source.notes
    assert capped.startswith("Mixed: softmax (attention 1, 2) selects, but its logits before") and "`trace`" in capped
    assert other.startswith("Mixed: scaled_dot_product_attention (1 of its calls)")
    with pytest.raises(IndexscopeError, match=r"softmax \(attention 0\) selects, but .* add the method `trace`"):
        as_source(Mixed("capped").eval())


def test_a_window_of_the_layer_is_no_selection_beside_one_that_selects() -> None:
    source = as_source(Mixed("window", "bool", "dense").eval())
    layers = source.trace(torch.randint(VOCABULARY, (1, 40))).layers
    assert [layer.selected is not None for layer in layers] == [False, True, False]
    assert layers[0].eligible.sum(-1).max() == 6 and layers[2].eligible is None


class Other(nn.Module):
    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def forward(self, input_ids: torch.Tensor) -> object:
        return self.result if not callable(self.result) else self.result(input_ids)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "its forward returns NoneType, no logits"),
        (lambda ids: (ids, None), "its forward returns"),
        (lambda ids: torch.zeros(3, 5), "its forward returns"),
        (lambda ids: torch.zeros(*ids.shape, 0), r"its forward returns a tensor \[2, 7, 0\], no logits"),
        (lambda ids: 1 / 0, r"its forward fails on ids of shape \[2, 7\] \(ZeroDivisionError: division by zero\)"),
        (lambda ids: torch.zeros(*ids.shape, 31), "makes no call of scaled_dot_product_attention"),
        (lambda ids: ids @ torch.zeros(2, 2), "its forward fails on ids of shape"),
    ],
)
def test_a_module_that_cannot_be_watched_is_one_line_that_says_why(result: object, words: str) -> None:
    with pytest.raises(IndexscopeError, match=words) as caught:
        as_source(Other(result))
    assert "\n" not in str(caught.value) and "docs/protocol.md" in caught.value.remedy


@pytest.mark.parametrize("positions", [50, 31, 20])
def test_positions_that_end_are_the_longest_sequence(positions: int) -> None:
    model = Plain().eval()
    model.places = nn.Embedding(positions, WIDTH)  # also where there are as many as tokens
    source = as_source(model)
    assert source.max_length == positions
    with pytest.raises(IndexscopeError, match=f"end at {positions}"):
        extract_samples(source, samples(positions + 1), SETTINGS)


@pytest.mark.parametrize("kind", ["bool", "by hand", "latent"])
def test_under_autocast_the_factors_are_those_of_the_narrow_type(kind: str) -> None:
    class Narrow(Plain):
        def forward(self, input_ids: torch.Tensor):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(input_ids)

    source = as_source(Narrow(kind).eval())
    assert source.index_topk == K and source.notes == ()
    tables = extract_samples(source, samples(40), SETTINGS)
    wide = extract_samples(Plain(kind).eval(), samples(40), SETTINGS)
    assert_frame_equal(tables["tokens"], wide["tokens"], rel_tol=0.02, abs_tol=0.02)


def test_a_compiled_module_is_watched_as_it_was_written() -> None:
    ids = torch.randint(VOCABULARY, (1, 40))
    plain = Plain().eval()
    compiled = TracedModel(torch.compile(plain, backend="eager")).trace(ids)
    for layer, own in zip(compiled.layers, TracedModel(plain).trace(ids).layers, strict=True):
        assert torch.equal(layer.selected, own.selected) and torch.equal(layer.scores, own.scores)


def test_a_module_in_training_is_watched_in_eval_mode_and_goes_on_training() -> None:
    model, ids = Plain("by hand"), torch.randint(VOCABULARY, (1, 40))
    trace = TracedModel(model).trace(ids)
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        assert torch.equal(trace.logits, model.eval()(ids))
    assert torch.equal(trace.layers[0].selected, model.told[0].selected)


class Masked(nn.Module):
    """Two layers of torch's attention with a mask of the caller's, made anew for every length."""

    def __init__(self, mask) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.mask = nn.Embedding(VOCABULARY, WIDTH), mask

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        self.seen = []
        for _ in range(2):
            q = x.view(*x.shape[:2], 4, -1).transpose(1, 2)
            self.seen.append(q)
            mask = self.mask(q)
            x = x + functional.scaled_dot_product_attention(q, q, q, attn_mask=mask).transpose(1, 2).reshape(x.shape)
        return x @ self.tokens.weight.T


def alibi(q: torch.Tensor) -> torch.Tensor:
    length = q.shape[2]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    bias = -distance * torch.tensor([0.5, 0.25, 0.125, 0.0625]).view(4, 1, 1)
    return bias.masked_fill(~causal(length), -torch.inf)


def windows(q: torch.Tensor) -> torch.Tensor:
    keys = causal(q.shape[2])
    return torch.stack([keys & keys.triu(1 - width) for width in (2, 4, 8, 16)])


@pytest.mark.parametrize("mask", [alibi, windows])
def test_biases_and_windows_of_single_heads_are_in_the_dense_attention(mask) -> None:
    model, ids = Masked(mask).eval(), torch.randint(VOCABULARY, (1, 40))
    source = as_source(model)
    assert source.index_topk is None and source.notes == ()
    for layer, q in zip(source.trace(ids).layers, model.seen, strict=True):
        given = mask(q)
        added = torch.zeros(given.shape).masked_fill(~given, -torch.inf) if given.dtype == torch.bool else given
        expected = (q @ q.transpose(2, 3) * q.shape[-1] ** -0.5 + added).softmax(-1)
        torch.testing.assert_close(layer.probabilities, expected)
        assert layer.selected is None and torch.equal(layer.value, q)


def test_layers_that_share_a_selection_have_it_and_no_scores_of_their_own() -> None:
    chosen: list[torch.Tensor] = []

    def shared(q: torch.Tensor) -> torch.Tensor:
        keys = causal(q.shape[2])
        if len(chosen) % 2 == 0:
            scores = q[:, 0] @ q[:, 1].transpose(1, 2)
            picked = scores.masked_fill(~keys, -torch.inf).topk(min(K, len(keys))).indices
            chosen.append((torch.zeros_like(scores).scatter(-1, picked, 1.0).bool() & keys).unsqueeze(1))
        else:
            chosen.append(chosen[-1])
        return chosen[-1]

    source = as_source(Masked(shared).eval())
    first, second = source.trace(torch.randint(VOCABULARY, (1, 40))).layers
    assert torch.equal(first.selected, chosen[-1][:, 0]) and torch.equal(second.selected, first.selected)
    assert first.scores is not None and second.scores is None
    (note,) = source.notes
    assert note.startswith("Masked: scaled_dot_product_attention (attention 0) comes after a topk") and "relu" in note
