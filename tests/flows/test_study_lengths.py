"""A study that asks for several lengths: what cannot be is one line, one pass gives all, gates and page tell them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from indexscope.analysis.settings import ExtractSettings
from indexscope.flows.study.lengths import lengths_notes, timed_lengths
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.storage.inputs.checkpoints import CheckpointInfo
from indexscope.storage.inputs.samples import Sample
from tests.flows.conftest import Run, address, blank_figures, run_command

LENGTHS = [24, 32, 48]
#: Chunks end where lengths do: of few indexer heads many scores are equal, and topk breaks ties by the chunk.
EXTRACT = {"chunk": 8, "profile_lengths": [16], "profile_repeats": 1}
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 32}


def written(folder: Path, lengths: Any = LENGTHS, **settings: Any) -> Path:
    file = folder / "study.yaml"
    study = yaml.safe_load(file.read_text()) | {"lengths": lengths} | settings
    del study["dataset"]["max_length"]
    file.write_text(yaml.safe_dump(study))
    return file


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "reports" / "tiny" / "report.json").read_text())
    return found


def close(first: float | None, second: float | None) -> bool:
    """Equal but for rounding; what is unknown is unknown in both."""
    return first is second is None or first == pytest.approx(second, rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def asked(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three lengths that has run."""
    folder = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("lengths") / "study"))
    gates = [
        "recall >= 0 at length 24",
        "recall > 1 at length 32",
        "recall.difference >= -1 on lower at length 48",
        "relative_cost.ratio <= 2 at length 24",
    ]
    with blank_figures():
        run = run_command("study", written(folder, gates=gates, extract=EXTRACT))
    assert run.code == 1, run.err
    assert run.out[0] == "lengths (samples that have so many tokens): 24 (8), 32 (8), 48 (6)"
    return folder


def test_gates_look_at_one_length(asked: Path) -> None:
    held = {gate["rule"]: gate for gate in report(asked)["gates"]}
    passed = {rule: gate["passed"] for rule, gate in held.items()}
    assert list(passed.values()) == [True, False, True, True], held
    assert "at length 32" in held["recall > 1 at length 32"]["reason"]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_is_a_study_of_samples_that_are_cut_to_it(asked: Path, folder: Path, length: int) -> None:
    """All metrics and differences, of the samples that have so many tokens; where that is all, their intervals too."""
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    kept = [row for row in rows if len(row["input_ids"]) >= length]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    file = folder / "study.yaml"
    study = yaml.safe_load(file.read_text())
    study["dataset"]["max_length"] = length
    study["extract"] = EXTRACT
    file.write_text(yaml.safe_dump(study))
    with blank_figures():
        assert run_command("study", file).code == 0
    whole, alone = report(asked), report(folder)
    measured = {(row["model"], row["name"], row["layer"]): row for row in alone["metrics"]}
    compared = 0
    for row in whole["at_lengths"]:
        if row["length"] != length:
            continue
        own = measured[row["model"], row["metric"], row["layer"]]
        # Resamples go by the order of samples, which is another one among fewer.
        for key in ("value", "ci_low", "ci_high") if len(kept) == len(rows) else ("value",):
            assert close(row[key], own[key]), (key, row, own)
        assert row["n"] == own["n"]
        compared += 1
    assert compared > 200
    paired = {(row["candidate"], row["metric"]): row for row in alone["comparisons"] if row["layer"] is None}
    for row in whole["compared_at_lengths"]:
        if row["length"] == length:
            own = paired[row["candidate"], row["metric"]]
            for key in ("baseline", "value", "difference", "n"):
                assert close(row[key], own[key]), (key, row, own)


def test_the_page_and_the_comment_tell_each_length(asked: Path) -> None:
    folder = asked / "reports" / "tiny"
    html, markdown = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert "Metrics at the study" in html and "Selection recall goes" in html
    assert "metrics at the study" in markdown and "| selection recall | 24 |" in markdown


def test_a_study_without_lengths_has_no_rows_of_them(first_run: tuple[Path, Any]) -> None:
    found = report(first_run[0])
    assert found["at_lengths"] == found["compared_at_lengths"] == []
    plan = make_plan(load_study(first_run[0] / "study.yaml"))
    assert not any("length" in table for table in plan.store.tables(address(plan, "extract", "base")))
    assert plan.given.extract.profile_lengths == (16, 32)


def test_samples_are_as_long_as_the_longest_length_and_short_ones_are_timed(folder: Path) -> None:
    file = written(folder, [16, 40], extract={"chunk": 16})
    study = load_study(file)
    assert study.dataset.max_length == 40
    assert make_plan(study).given.extract.profile_lengths == (16, 40)
    assert timed_lengths([1024, 4096], ExtractSettings()).profile_lengths == (1024,)
    assert timed_lengths([4096, 8192], ExtractSettings()).profile_lengths is None
    assert timed_lengths([64], ExtractSettings(profile_lengths=(8,))).profile_lengths == (8,)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    ([48, 24], {}, "lengths: the values must increase"),
    ([48], {}, "lengths: should have at least 2 items"),
    ([1, 48], {}, "has lengths that begin with 1; a next-token loss needs two tokens"),
    ([16, 64], {}, "lengths: are up to 64 tokens, and the longest sample has 48; give longer texts"),
    ([16, 512], {}, "lengths: are up to 512 tokens, and base was made for 128; leave out those above 128"),
    (LENGTHS, {"dataset": {"source": "data.jsonl", "column": "input_ids", "max_length": 40}},
     "has lengths up to 48, and dataset.max_length is 40; let both be the same, or leave max_length out"),
    (LENGTHS, {"dataset": {"source": "data.jsonl", "column": "input_ids", "max_length": 64, "min_length": 60}},
     "has lengths up to 48, and dataset.max_length is 64"),
    (LENGTHS, {"gates": ["recall >= 0.5 at length 40"]},
     "selection_recall is not measured at length 40; add 40 to the study's lengths"),
    (LENGTHS, {"gates": ["indexer_latency_ms <= 3 at length 24"]}, "indexer_latency_ms is not measured by length"),
]  # fmt: skip


@pytest.mark.parametrize(("lengths", "settings", "told"), BAD)
def test_lengths_that_cannot_be_are_one_line(
    folder: Path, lengths: Any, settings: dict[str, Any], told: str, no_model: None
) -> None:
    file = folder / "study.yaml"
    study = yaml.safe_load(file.read_text())
    del study["dataset"]["max_length"]
    file.write_text(yaml.safe_dump(study | {"lengths": lengths} | settings))
    run = run_command("study", file)
    assert run.code == 2 and len(run.err) == 1 and told in run.err[0], run.err
    assert not (folder / ".indexscope").exists()


def info(**told: Any) -> CheckpointInfo:
    return CheckpointInfo("llama", max_positions=128, **told)


def test_the_plan_says_which_lengths_are_runs_of_their_own_and_why() -> None:
    draw = random.Random(0)
    data = [Sample(place, "", tuple(draw.randrange(9) for _ in range(tokens))) for place, tokens in enumerate((64, 20))]
    models = {"plain": info(), "scaled": info(rope=LONGROPE), "mine": info(own_code=True)}
    counted, scaled, mine = lengths_notes([16, 32, 48, 64], data, models, 1)
    assert counted == "lengths (samples that have so many tokens): 16 (2), 32 (1), 48 (1), 64 (1)"
    assert scaled == (
        "scaled: 16 and 32 tokens are runs of their own: its positions are scaled by the whole length (longrope)"
    )
    assert mine.startswith("mine: 16, 32 and 48 tokens are runs of their own: nobody knows what")
    (_, sampled) = lengths_notes([16, 48, 64], data, {"plain": info()}, 4)
    assert sampled == "plain: 16 tokens are runs of their own: extract.query_every 4 measures other queries of so few"
    assert lengths_notes([], data, models, 1) == ()


def test_lengths_are_part_of_the_features_key_alone(folder: Path) -> None:
    def digests(lengths: Any) -> dict[str, str]:
        plan = make_plan(load_study(written_again(folder, lengths)))
        return {
            node.step.name: node.key.digest for node in plan.graph if node.model is None or node.model.name == "base"
        }

    plain, some, others = digests(None), digests([24, 48]), digests([32, 48])
    for step in ("audit", "closeup", "reruns", "profile", "key_budget"):
        assert plain[step] == some[step] == others[step], step
    for step in ("extract", "context_length", "distribution", "compare"):
        assert len({plain[step], some[step], others[step]}) == 3, step


def written_again(folder: Path, lengths: Any) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"lengths": lengths}))
    return file


def test_tables_of_lengths_are_read_from_the_store(asked: Path) -> None:
    plan = make_plan(load_study(asked / "study.yaml"))
    listed = plan.store.read(address(plan, "extract", "base"), "samples_at_length", [name for name, _ in plan.shards])
    assert listed.group_by("length").len().sort("length").rows() == [(24, 8), (32, 8)]
    rows = plan.store.read(address(plan, "context_length", "base"), "at_lengths", ["result"])
    assert rows.filter(pl.col("metric") == "selection_recall")["length"].unique().sort().to_list() == LENGTHS


ROOT = Path(__file__).parents[2]
EXAMPLE, GUIDE = ROOT / "examples" / "lengths" / "study.yaml", (ROOT / "docs" / "lengths.md").read_text()
KEYS = 64


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    """The guide's study as it stands, with less of what it says nothing of; what it told, and its report."""
    folder = tmp_path_factory.mktemp("example")
    less = ["closeup.samples=1", "closeup.rerun_samples=0", "closeup.removal_samples=0", "extract.profile_repeats=1"]
    less += ["extract.profile_lengths=[32]", f"store={folder / 'store'}", f"report={folder / 'out'}"]
    with blank_figures():
        run = run_command("study", EXAMPLE, *(word for one in less for word in ("--set", one)))
    return run, json.loads((Path(run.out[-1]) / "report.json").read_text())


def test_the_guide_shows_the_example() -> None:
    assert yaml.safe_load(GUIDE.partition("```yaml\n")[2].partition("```")[0]) == yaml.safe_load(EXAMPLE.read_text())


def test_the_guides_table_is_what_its_study_measures_and_what_follows_from_64_keys(
    example: tuple[Run, dict[str, Any]],
) -> None:
    run, found = example
    assert run.code == 0, run.err
    assert run.out[0] == "lengths (samples that have so many tokens): 64 (4), 128 (4), 256 (4), 512 (4)"
    values = {
        (row["model"], row["metric"], row["length"]): row["value"]
        for row in found["at_lengths"]
        if row["layer"] is None
    }
    table = GUIDE.partition("relative cost, light |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    assert [int(row[0]) for row in rows] == [64, 128, 256, 512]
    for tokens, effect, by_chance, baseline, light in rows:
        length = int(tokens)
        after = range(KEYS + 1, length + 1)
        for model, cost in (("baseline", baseline), ("light", light)):
            assert f"{values[model, 'relative_cost', length]:.2f}" == cost
            assert values[model, "in_effect", length] == pytest.approx(len(after) / length)
            assert f"{100 * len(after) / length:g} %" == effect
            chance = values[model, "random_recall", length]
            if after:
                assert chance == pytest.approx(sum(KEYS / keys for keys in after) / len(after))
                assert f"{chance:.3f}" == by_chance
            else:
                assert chance is values[model, "selection_recall", length] is None and not by_chance


def test_the_guides_sentences_on_its_study_hold(example: tuple[Run, dict[str, Any]]) -> None:
    _, found = example
    assert [gate["passed"] for gate in found["gates"]] == [True, True, True]
    pays = {
        model: min(row["length"] for row in found["at_lengths"] if told(row) == (model, "relative_cost") and cheap(row))
        for model in ("baseline", "light")
    }
    assert pays == {"light": 256, "baseline": 512}
    assert "The light indexer pays from 256 tokens on, the baseline's from 512." in GUIDE
    losses = {row["length"]: row for row in found["compared_at_lengths"] if row["metric"] == "nll"}
    assert losses[64]["difference"] == pytest.approx(0.0, abs=1e-6), "every key is selected by both"
    assert losses[512]["difference"] != losses[64]["difference"]
    recall = [row["value"] for row in found["at_lengths"] if told(row) == ("light", "selection_recall")]
    chance = [row["value"] for row in found["at_lengths"] if told(row) == ("light", "random_recall")]
    assert len(recall) == 4 and all(one > other for one, other in zip(recall[1:], chance[1:], strict=True))


def told(row: dict[str, Any]) -> tuple[str, str] | None:
    """Model and metric of a row over all layers."""
    return (row["model"], row["metric"]) if row["layer"] is None else None


def cheap(row: dict[str, Any]) -> bool:
    return bool(row["value"] <= 1)


def test_a_gate_on_recall_where_every_key_is_selected_fails(asked: Path) -> None:
    rules = json.dumps(["recall >= 0 at length 8"])
    study = yaml.safe_load((asked / "study.yaml").read_text()) | {"lengths": [8, *LENGTHS]}
    (asked / "short.yaml").write_text(yaml.safe_dump(study))
    run = run_command("study", asked / "short.yaml", "--set", f"gates={rules}", "--set", "candidates=[]")
    assert run.code == 1, run.err


def test_the_plan_of_the_guide_is_what_a_plan_says() -> None:
    lengths = [1024, 4096, 16384, 65536]
    tokens = [65_536] * 9 + [16_384] * 7
    data = [Sample(place, "", (0,) * count) for place, count in enumerate(tokens)]
    scaled = info(rope={"rope_type": "longrope", "original_max_position_embeddings": 4096})
    shown = GUIDE.partition("```text\n")[2].partition("```")[0]
    assert "\n".join(lengths_notes(lengths, data, {"base": scaled}, 1)) + "\n" == shown
    assert timed_lengths(lengths, ExtractSettings()).profile_lengths == (1024,)
