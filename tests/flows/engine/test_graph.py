"""The graph that follows from declarations: order, addresses, and what each result is made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from indexscope import tasks
from indexscope.flows.engine.graph import Graph, Node, in_order, resolved
from indexscope.storage.store.store import JSON
from indexscope.tasks.common import registry
from indexscope.tasks.common.declared import Given, Reads, Step
from indexscope.tasks.common.dumps import Dump
from indexscope.tasks.common.origin import Checkpoint
from indexscope.tasks.common.registry import STEPS
from tests.flows.engine.fakes import BASE, GIVEN, LIGHT, graph, step


def names(nodes: Graph | list[Node]) -> list[str]:
    return [node.title for node in nodes]


def digests(found: Graph) -> dict[str, str]:
    return {node.title: node.key.digest for node in found}


CHAIN = [
    step("third", "analyze", "second"),
    step("second", "analyze", "first"),
    step("first", "analyze", "extract"),
    step("beside", "analyze", "extract"),
    step("extract", "extract", sharded=True),
]
FP8, PORT = Dump("fp8", "fingerprint of fp8"), Dump("port", "fingerprint of port")
ALL_ROWS = step("gathered", "compare", "rows", per="study", settings=lambda given: {})


def of_dumps(given: Given) -> dict[str, JSON]:
    return {"checkpoint": given.checkpoint, "dumps": list(given.dumps)}


def test_what_reads_another_comes_after_it_however_deep() -> None:
    assert [one.name for one in in_order(CHAIN)] == ["extract", "first", "second", "third", "beside"]


def test_a_circle_and_a_step_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"circle: (a → b|b → a)"):
        in_order([step("a", "analyze", "b"), step("b", "analyze", "a")])
    with pytest.raises(ValueError, match="step a reads b, which is not declared"):
        in_order([step("a", "analyze", "b")])
    with pytest.raises(ValueError, match="step a reads b, which a later command makes"):
        in_order([step("a", "extract", "b"), step("b", "analyze")])


def test_a_step_may_read_all_that_a_command_makes() -> None:
    compare = step("compare", "compare", "[analyze]", per="study")
    (found,) = [one for one in resolved([*CHAIN, compare]) if one.name == "compare"]
    assert [read.step for read in found.reads] == ["third", "second", "first", "beside"]
    node = graph([*CHAIN, compare]).of("compare")
    assert node is not None
    assert [(source.step, source.model) for source in node.sources][:2] == [("third", "base"), ("third", "light")]
    assert len(node.made_from) == 8


def test_a_model_s_result_reads_its_own_model_and_what_is_fitted_on_all_reads_every_one() -> None:
    found = graph([*CHAIN, step("fitted", "analyze", "extract", Reads("extract", of_each=True))])
    own, fitted = found.of("first", "light"), found.of("fitted", "light")
    assert own is not None and fitted is not None
    assert names(list(own.made_from)) == ["extract light"]
    assert next((source.model, source.of_each) for source in fitted.sources) == ("light", False)
    assert {source.model for source in fitted.sources if source.of_each} == {"base", "light"}
    assert len(fitted.made_from) == 2, "each once"


def test_names_and_order_of_models_count_only_where_they_are_part_of_a_result() -> None:
    steps = [*CHAIN, step("fitted", "analyze", Reads("extract", of_each=True), settings=lambda given: {})]
    steps += [step("compare", "compare", "first", per="study")]
    there = digests(graph(steps))
    back = digests(graph(steps, [LIGHT, BASE]))
    assert {name: back[name] for name in there if name != "compare"} == {
        name: digest for name, digest in there.items() if name != "compare"
    }
    assert back["compare"] != there["compare"]
    renamed = digests(graph(steps, [BASE, replace(LIGHT, name="other")]))
    assert renamed["third other"] == there["third light"] and renamed["compare"] != there["compare"]


def test_a_change_reaches_everything_that_is_made_from_it_and_nothing_else() -> None:
    steps = [*CHAIN, step("compare", "compare", "third", per="study")]
    before = digests(graph(steps))
    newer = [replace(one, version=lambda: 2) if one.name == "first" else one for one in steps]
    after = digests(graph(newer))
    changed = {name.split()[0] for name in before if before[name] != after[name]}
    assert changed == {"first", "second", "third", "compare"}


def test_two_models_of_one_checkpoint_share_their_results() -> None:
    twin = Checkpoint("twin", "/elsewhere", BASE.fingerprint)
    found = graph([*CHAIN, step("fitted", "analyze", Reads("extract", of_each=True))], [BASE, twin])
    first, second = found.of("third", "base"), found.of("third", "twin")
    assert first is not None and second is not None and first.key == second.key
    assert found.at(second.key) is first
    fitted = found.of("fitted", "base")
    assert fitted is not None and len(fitted.sources) == 1


def test_a_step_that_a_study_does_not_want_is_left_out_with_what_only_may_read_it() -> None:
    never = replace(step("plugin", "extract"), wanted=lambda given: False)
    found = graph([*CHAIN, never, step("reader", "analyze", "extract", Reads("plugin", optional=True))])
    reader = found.of("reader", "base")
    assert found.of("plugin", "base") is None
    assert reader is not None and [source.step for source in reader.sources] == ["extract"]
    with pytest.raises(ValueError, match="reads plugin"):
        graph([*CHAIN, never, step("reader", "analyze", "plugin")])


def test_a_step_of_dumps_has_a_result_for_each_and_runs_the_baseline() -> None:
    steps = [*CHAIN, step("rows", "extract", per="dump", runs_model=True, settings=of_dumps), ALL_ROWS]
    found = graph(steps, dumps=[FP8, PORT])
    one, other, whole = found.of("rows", "fp8"), found.of("rows", "port"), found.of("gathered")
    assert one is not None and other is not None and whole is not None and one.key != other.key
    assert (one.title, one.owner, one.runs, one.model) == ("rows fp8", "fp8", "base", BASE)
    assert [source.model for source in whole.sources] == ["fp8", "port"]
    # Neither another candidate nor its dump has a part in it.
    assert graph(steps, [BASE], dumps=[FP8]).of("rows", "fp8").key == one.key  # type: ignore[union-attr]
    assert graph(steps, [LIGHT], dumps=[FP8]).of("rows", "fp8").key != one.key  # type: ignore[union-attr]
    before = {node.title: node.key for node in graph(CHAIN)}
    assert all(node.key == before[node.title] for node in found if node.title in before)
    assert found.of("third", "fp8") is None


def test_two_dumps_need_no_model_and_nothing_is_made_of_models() -> None:
    compare = step("compare", "compare", "third", per="study")
    rows = step("rows", "extract", per="dump", runs_model=True, settings=of_dumps)
    found = graph([*CHAIN, compare, rows, ALL_ROWS], [], dumps=[FP8], against=PORT)
    assert [node.title for node in found] == ["rows fp8", "gathered"]
    (one, _) = found
    assert (one.model, one.runs, one.dumps) == (None, "", (FP8, PORT))
    assert one.given.dumps == (FP8.fingerprint, PORT.fingerprint) and one.given.checkpoint == ""


def test_a_study_without_dumps_has_no_step_of_them() -> None:
    rows = step("rows", "extract", per="dump")
    assert {node.step.name for node in graph([*CHAIN, rows, ALL_ROWS])} == {one.name for one in CHAIN}


def test_the_audit_comes_first_and_every_declared_step_has_its_place() -> None:
    assert next(iter(STEPS)) == "audit" and STEPS["audit"].first
    assert list(STEPS)[-1] == "report"
    found = graph(list(STEPS.values()), dumps=[FP8])
    of_some = {"plugin_features", "plugins", "series", "evidence", "evidence_changes"}
    assert {node.step.name for node in found} == set(STEPS) - of_some
    seen: set[str] = set()
    for node in found:
        assert {one.title for one in node.made_from} <= seen
        seen.add(node.title)
    kinds: list[Step] = list(STEPS.values())
    assert len({one.kind for one in kinds}) == len(kinds), "a folder of the store each"
    assert GIVEN.checkpoint == ""


def test_a_file_that_is_dropped_into_the_folder_is_a_step_with_an_address_and_a_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    declaration = """
        from indexscope.tasks.common.declared import Made, Reads, Step

        STEP = Step("more", "analyze", "more", lambda job, store: Made({}), (Reads("extract"),), place=15)
    """
    (tmp_path / "more.py").write_text(dedent(declaration))
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    found = registry.found()
    names = list(found)
    assert names[names.index("more") - 1 : names.index("more") + 2] == ["distribution", "more", "clustering"]
    study = graph(list(found.values()))
    more, compare = study.of("more", "light"), study.of("compare")
    assert more is not None and [node.title for node in more.made_from] == ["extract light"]
    assert compare is not None and "more" in {source.step for source in compare.sources}, "it reads every analysis"
