"""A pass that was killed goes on from its last commit."""

from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import IO, Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import PreTrainedModel

from indexscope.analysis.capture import audit, capture_sparse
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.streaming import commits
from indexscope.analysis.capture.streaming.commits import committing
from indexscope.analysis.capture.streaming.frozen import Unreadable, read, write
from indexscope.analysis.capture.streaming.model import Progress, StreamedModel
from indexscope.analysis.capture.streaming.states import InMemory, Leaf
from indexscope.analysis.closeup.collect import Look
from indexscope.analysis.closeup.looking import Looking
from indexscope.analysis.closeup.run import closeup_samples, makers_of, rerun_samples
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.evidence.watch import AnswerWatch
from indexscope.analysis.features import extract_samples
from indexscope.analysis.plugins.extract import extract_plugin_features
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from indexscope.plugins import PluginFile, load
from indexscope.storage.inputs.evidence import Evidence
from indexscope.storage.inputs.streamed.spilled import SpilledStates
from tests.analysis.capture.streaming.in_parts import InParts
from tests.analysis.capture.streaming.test_changed import Change, edit_of, laying
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.samples import samples

# Shared selections, an indexer on compressed keys, recurrent layers that go on and that do not, dense.
MARKS = Evidence(spans=((3, 9), (12, 14)), answer=(20, 26), kind="fact")
PLUGIN = b"""
from indexscope.plugins import feature

@feature(unit="share", meaning="Attention on the first key.")
def first(rows):
    return rows.p[..., 0]

@feature(unit="keys", meaning="n_t.", per="query")
def seen(rows):
    return rows.n
"""
MODELS = ["glm_moe_dsa", "deepseek_v32", "qwen3_next", "jamba", "llama"]


class Killed(BaseException):
    """Ends a pass as a kill does: nobody puts anything in order."""


class Shelf:
    """Keeps the last commit in memory.

    Attributes:
        kept: Its sequences, layer and bytes.
        known: What passes came to that are over.
        put: The same at the time of the last commit: what another process finds.
        told: Where passes went on, and why they did without.
    """

    def __init__(self, full: bool = False) -> None:
        self.kept: tuple[str, int, bytes] | None = None
        self.known: dict[str, Any] = {}
        self.put: dict[str, Any] = {}
        self.told: list[str] = []
        self._full = full

    def over(self, of: str) -> Any:
        return self.put.get(of)

    def keep(self, of: str, result: Any) -> None:
        self.known[of] = json.loads(json.dumps(result))

    @contextmanager
    def last(self, of: str) -> Iterator[IO[bytes] | None]:
        yield io.BytesIO(self.kept[2]) if self.kept is not None and self.kept[0] == of else None

    @contextmanager
    def commit(self, of: str, layer: int, layers: int) -> Iterator[IO[bytes]]:
        file = io.BytesIO()
        yield file
        if self._full:
            raise OSError(28, "No space left on device")
        self.kept, self.put = (of, layer, file.getvalue()), dict(self.known)

    def goes_on(self, layer: int, layers: int) -> None:
        self.told.append(f"{layer} of {layers}")

    def warn(self, reason: str) -> None:
        self.told.append(reason)


@pytest.fixture(autouse=True)
def after_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "LEAST", 0.0)
    monkeypatch.setattr(commits, "TIMES", 0.0)


def built(name: str) -> PreTrainedModel:
    return FAMILIES[name]() if name in FAMILIES else tiny(name)


def extracted(
    parts: InParts,
    shelf: Shelf | None,
    kill: int | None = None,
    limit: int | None = None,
    chunk: int = 16,
    change: Change = lambda model: None,
) -> tuple[dict[str, pl.DataFrame], Journal]:
    """Features of two samples with answers, one of which is looked at closely; killed once so many layers are done."""

    def progress(layer: int, *_: int) -> None:
        if layer == kill:
            raise Killed

    states = InMemory() if limit is None else SpilledStates(limit)
    source, journal = StreamedModel(parts, states, progress), Journal()
    change(source)
    given = [replace(one, evidence=MARKS) for one in samples(40, 33)]
    makers = makers_of(Look([0], CloseupSettings()))
    with nullcontext() if shelf is None else committing(shelf):
        return extract_samples(
            source,
            given,
            ExtractSettings(chunk=chunk),
            journal,
            beside=lambda one: Looking(one, makers, 8, states) if one.index == 0 else None,
            watching=AnswerWatch,
            lengths=(20, 40),
        ), journal


def killed(name: str, layer: int, limit: int | None = None) -> Shelf:
    """What a pass leaves that is killed while a layer runs: the commit before it."""
    shelf = Shelf()
    with pytest.raises(Killed):
        extracted(InParts(built(name)), shelf, layer, limit)
    assert shelf.kept is not None and shelf.kept[1] == layer - 1
    return shelf


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    for name, frame in expected.items():
        assert_frame_equal(found[name], frame, check_exact=True)


@pytest.mark.parametrize("name", MODELS)
def test_a_pass_goes_on_from_any_layer_to_the_same_bits_and_reads_no_layer_before_it(name: str) -> None:
    expected, journal = extracted(InParts(built(name)), None)
    layers = built(name).config.num_hidden_layers
    for layer in range(2, layers + 1):
        limit = None if layer % 2 else 0  # in memory, or in a file
        shelf, parts = killed(name, layer, limit), InParts(built(name))
        found, resumed = extracted(parts, shelf, None, limit)
        assert_same(found, expected)
        assert shelf.told == [f"{layer - 1} of {layers}"]
        assert parts.loads == dict.fromkeys(range(layer - 1, layers), 1)
        assert resumed.state() == journal.state()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("deepseek_v32", edit_of(Edit(share="FSS", selector={"two_stage": {"block": 4, "keep": 3}}))),
        ("glm_moe_dsa", edit_of(Edit(share="FSSS"))),
        ("llama", laying(lambda: tiny("llama"))),
    ],
)
def test_what_an_edit_or_a_fitted_indexer_hands_on_is_put_away_too(name: str, change: Change) -> None:
    expected, _ = extracted(InParts(built(name)), None, change=change)
    shelf, parts = Shelf(), InParts(built(name))
    with pytest.raises(Killed):
        extracted(InParts(built(name)), shelf, 2, change=change)
    found, _ = extracted(parts, shelf, change=change)
    assert_same(found, expected)
    assert 0 not in parts.loads and 1 in parts.loads


def test_features_of_plug_ins_go_on_too() -> None:
    declared = load(PluginFile("own.py", PLUGIN))

    def plugged(parts: InParts, kill: int | None = None) -> dict[str, pl.DataFrame]:
        def progress(layer: int, *_: int) -> None:
            if layer == kill:
                raise Killed

        source = StreamedModel(parts, progress=progress)
        with committing(shelf):
            return extract_plugin_features(source, samples(40, 33), ExtractSettings(chunk=16), declared)

    shelf = Shelf()
    expected, parts = plugged(InParts(built("llama"))), InParts(built("llama"))
    shelf.kept = None
    with pytest.raises(Killed):
        plugged(InParts(built("llama")), 2)
    assert_same(plugged(parts), expected)
    assert 0 not in parts.loads and 1 in parts.loads


@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa"])
def test_reruns_of_all_kinds_are_one_pass_that_goes_on_from_any_layer(name: str) -> None:
    given, extract = CloseupSettings(queries=8, rerun_samples=1), ExtractSettings(chunk=16)
    looked = closeup_samples(built(name), samples(40, 33, 40, 33), given, extract)

    def again(source: Source) -> dict[str, pl.DataFrame]:
        return rerun_samples(source, samples(40, 33, 40, 33), given, extract, looked, Journal())

    expected = again(CapturedModel(built(name)))
    assert all(len(table) for table in expected.values())
    layers = built(name).config.num_hidden_layers
    for layer in range(2, layers + 1):
        shelf, parts = Shelf(), InParts(built(name))
        with committing(shelf):
            with pytest.raises(Killed):
                again(StreamedModel(InParts(built(name)), progress=killing(layer)))
            assert_same(again(StreamedModel(parts)), expected)
        assert shelf.told == [f"{layer - 1} of {layers}"]
        assert parts.loads == dict.fromkeys(range(layer - 1, layers), 1)


def killing(layer: int, of_pass: int = 1) -> Progress:
    """Ends a pass once so many layers are done of it."""
    passes = [0]

    def progress(done: int, *_: int) -> None:
        passes[0] += done == 1
        if done == layer and passes[0] == of_pass:
            raise Killed

    return progress


@pytest.mark.parametrize("name", ["glm_moe_dsa", "qwen3_next", "gpt2"])
@pytest.mark.parametrize("of_pass", [1, 2])
def test_both_passes_of_an_audit_go_on_from_any_layer_to_the_same_bits(
    name: str, of_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RELATIVE_TOLERANCE", {torch.float32: -1.0})  # so that the logits do not suffice
    sequences, layers = [list(range(40)), list(range(1, 30))], built(name).config.num_hidden_layers
    expected = audit.audit_causality(built(name), sequences)
    for layer in range(2, layers + 1):
        shelf, parts = Shelf(), InParts(built(name))
        with committing(shelf):
            ended = StreamedModel(InParts(built(name)), progress=killing(layer, of_pass))
            with pytest.raises(Killed):
                audit.audit_causality(ended, sequences)
            assert len(shelf.put) == of_pass - 1
            assert_frame_equal(audit.audit_causality(StreamedModel(parts), sequences), expected, check_exact=True)
        rest = dict.fromkeys(range(layer - 1, layers), 1)
        assert shelf.told == [f"{layer - 1} of {layers}"]
        if of_pass == 2:
            assert parts.loads == rest, "what the first pass came to was put away with the second"
        else:
            assert parts.loads == Counter(rest) + Counter(range(layers)), "and the second as a whole"


def test_an_audit_of_other_sequences_takes_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "RELATIVE_TOLERANCE", {torch.float32: -1.0})
    shelf, parts = Shelf(), InParts(built("gpt2"))
    with committing(shelf):
        with pytest.raises(Killed):
            audit.audit_causality(StreamedModel(InParts(built("gpt2")), progress=killing(2, 2)), [list(range(40))])
        found = audit.audit_causality(StreamedModel(parts), [list(range(1, 40))])
    assert_frame_equal(found, audit.audit_causality(built("gpt2"), [list(range(1, 40))]), check_exact=True)
    assert shelf.told == [] and set(parts.loads.values()) == {2}


def test_a_leak_that_was_seen_before_the_kill_is_still_one() -> None:
    """What the first pass counted before its commit is counted once, and known to the second."""

    def leaking() -> PreTrainedModel:
        model = built("glm_moe_dsa")
        model.model.layers[1].mlp.register_forward_hook(lambda _, __, made: made + made.mean(1, keepdim=True))
        return model

    expected = audit.audit_causality(leaking(), [list(range(30))])
    assert expected["passed"][0] is False
    for of_pass in (1, 2):
        with committing(Shelf()):
            with pytest.raises(Killed):
                audit.audit_causality(
                    StreamedModel(InParts(leaking()), progress=killing(3, of_pass)), [list(range(30))]
                )
            found = audit.audit_causality(StreamedModel(InParts(leaking())), [list(range(30))])
        assert_frame_equal(found, expected, check_exact=True)


def test_a_pass_that_was_killed_behind_its_last_layer_reads_no_layer_again() -> None:
    expected, _ = extracted(InParts(built("llama")), None)
    shelf, parts = Shelf(), InParts(built("llama"))
    extracted(parts, shelf)
    parts = InParts(built("llama"))
    found, _ = extracted(parts, shelf)
    assert_same(found, expected)
    assert not parts.loads


def test_a_damaged_commit_is_left_in_one_line_and_the_pass_begins_anew() -> None:
    expected, _ = extracted(InParts(built("deepseek_v32")), None)
    whole = killed("deepseek_v32", 3).kept
    assert whole is not None
    of, layer, data = whole
    for broken in (data[:-9], data[: len(data) // 2], b"", bytes([*data[:3000], data[3000] ^ 1, *data[3001:]])):
        shelf, parts = Shelf(), InParts(built("deepseek_v32"))
        shelf.kept = of, layer, broken
        found, _ = extracted(parts, shelf)
        assert_same(found, expected)
        assert len(shelf.told) == 1 and "begins anew, since what was put away of it cannot be read" in shelf.told[0]
        assert 0 in parts.loads


def test_a_commit_of_other_sequences_or_chunks_is_not_taken_up() -> None:
    shelf, parts = killed("llama", 2), InParts(built("llama"))
    extracted(parts, shelf, chunk=8)
    assert 0 in parts.loads and shelf.told == []


def test_a_full_disk_costs_the_net_and_not_the_pass() -> None:
    expected, _ = extracted(InParts(built("llama")), None)
    shelf = Shelf(full=True)
    found, _ = extracted(InParts(built("llama")), shelf)
    assert_same(found, expected)
    assert shelf.told == ["goes on without a net, since what it came to cannot be put away (No space left on device)"]


def test_passes_whose_lookers_cannot_be_put_away_are_not_committed() -> None:
    shelf, streamed = Shelf(), StreamedModel(InParts(built("llama")))
    with committing(shelf):
        for _ in streamed.run(torch.zeros((1, 4), dtype=torch.int64), lambda chunk: capture_sparse(chunk), 4):
            pass
    assert shelf.kept is None


def test_commits_take_a_twentieth_of_the_time_and_come_a_minute_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that takes 10 s is made every 200 s, and the first after a minute."""
    monkeypatch.undo()
    now = [1000.0]
    monkeypatch.setattr(commits.time, "monotonic", lambda: now[0])

    made: list[float] = []

    class Slow(Shelf):
        @contextmanager
        def commit(self, of: str, layer: int, layers: int) -> Iterator[IO[bytes]]:
            made.append(now[0] - 1000.0)
            yield io.BytesIO()
            now[0] += 10.0

    class Run:
        mark = "one"

        def state(self) -> Any:
            return None

        def restore(self, state: Any) -> None:
            raise AssertionError

    with committing(Slow()):
        one = commits.Commits([Run()], 100, InMemory(), torch.device("cpu"))
        for layer in range(1, 51):
            now[0] += 10.0
            one.after(layer)
    assert made == [60.0, 270.0, 480.0]


def test_what_was_put_away_is_the_same_to_the_bit_and_laid_out_alike() -> None:
    base = torch.arange(24.0).view(2, 3, 4)
    array = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    outputs = [
        base.transpose(1, 2),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.empty(0, 4),
        base[:, :1].expand(2, 5, 4),
    ]
    leaves = [Leaf(one, InMemory()) for one in outputs]
    dropped = Leaf(torch.ones(3), InMemory())
    dropped.drop()
    given = {"leaves": leaves, "again": {leaves[0]}, "dropped": dropped, "views": (base[0], base[1]), "array": array,
             "zero": np.array(2.5), "scalar": np.float32(0.1), "type": torch.float16, "size": base.shape}  # fmt: skip
    file = io.BytesIO()
    write(given, file)
    file.seek(0)
    found = read(file, InMemory(), torch.device("cpu"))
    for leaf, tensor in zip(found["leaves"], outputs, strict=True):
        assert torch.equal(leaf.value(), tensor) and leaf.value().stride() == tensor.stride()
        assert leaf.value().dtype == tensor.dtype
    assert found["again"] == {found["leaves"][0]}
    assert found["dropped"].value().is_meta and found["dropped"].value().shape == (3,)
    found["views"][0][0, 0] = 7.0
    assert found["views"][0].untyped_storage().data_ptr() == found["views"][1].untyped_storage().data_ptr()
    assert torch.equal(found["views"][1], base[1])
    assert np.array_equal(found["array"], array) and found["array"].strides == array.strides
    assert found["array"].flags.writeable
    assert found["zero"] == 2.5 and found["zero"].shape == () and found["scalar"] == np.float32(0.1)
    assert found["type"] == torch.float16 and found["size"] == base.shape


def test_what_names_anything_but_data_is_refused() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return print, ("a stranger's code ran",)

    for one in (Trap(), pickle.loads, torch.nn.Linear(1, 1)):
        file = io.BytesIO()
        write(one, file)
        file.seek(0)
        with pytest.raises(Unreadable, match="does not belong here"):
            read(file, InMemory(), torch.device("cpu"))
