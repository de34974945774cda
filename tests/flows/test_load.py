"""The study file: what is accepted, and what a mistake is told as."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from indexscope import IndexscopeError
from indexscope.flows.errors import StudyError
from indexscope.flows.study.config import Study, slug
from indexscope.flows.study.load import load_study
from indexscope.flows.study.template import study_template


def write(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text)
    return file


def lines(file: Path, *overrides: str) -> list[str]:
    with pytest.raises(IndexscopeError) as caught:
        load_study(file, overrides)
    return [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()]


def test_built_in_study_compares_the_light_indexer_with_the_baseline() -> None:
    study = load_study()
    assert study.baseline.path == "builtin:baseline"
    assert [model.name for model in study.candidates] == ["light"]
    assert study.gates


def test_template_validates_and_its_values_are_the_defaults(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, study_template()))
    assert study.extract == Study.model_fields["extract"].default
    assert study.analyses == Study.model_fields["analyses"].default
    assert study.runner == Study.model_fields["runner"].default


def test_template_names_every_key_and_says_what_it_means(tmp_path: Path) -> None:
    def check(raw: object, model: type) -> None:
        assert isinstance(raw, dict)
        assert set(raw) == set(model.model_fields)
        for name, field in model.model_fields.items():
            assert field.description, name
            if isinstance(field.default, model.__mro__[-3]) and name not in ("baseline",):
                check(raw[name], type(field.default))

    check(yaml.safe_load(study_template()), Study)
    assert study_template().count("#") > 40


def test_every_mistake_is_one_line_with_its_key_and_a_proposal(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "baseline: builtin:baseline\n"
        "extract: {chunk: 0, chunks: 3, dtype: fp32}\n"
        "analyses: {clustering: {clusters: many}}\n"
        "clustering: {clusters: 3}\n"
        "dataset: 5\n",
    )
    found = lines(file)
    starts = [
        "extract.chunk: should be greater than or equal to 1 or should be 'auto', not 0; ",
        "extract.chunks: unknown key; did you mean 'chunk'?",
        "extract.dtype: should be 'float32', 'bfloat16' or 'float16', not 'fp32'; ",
        "analyses.clustering.clusters: should be an integer or should be 'auto', not 'many'; ",
        "clustering: unknown key; did you mean 'analyses.clustering'?",
        "dataset: is 5, not a section of keys; ",
    ]
    assert len(found) == len(starts)
    for start in starts:
        assert any(line.startswith(start) for line in found), (start, found)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is empty; "),
        ("- a\n", "is not a list of `key: value` lines; "),
        ("candidates: []\n", "baseline: is missing; The model that the others are compared with"),
        ("baseline: a\ncandidates: [x/a]\n", "uses the name 'a' twice; give each a name of its own"),
        ("baseline: ./nowhere\n", "baseline.path: there is no "),
        ("baseline: a\ndataset: {source: data.jsonl}\n", "dataset.source: there is no "),
        ("baseline: a\ngates: [recall is fine]\n", "gates.0: "),
        (
            "baseline: a\ngates: [nll < 1 per layer]\n",
            "gates.0: rule 'nll < 1 per layer': nll is not measured by layer; ",
        ),
        (
            "baseline: a\ncomparison: {margins: {recal: 1}}\n",
            "comparison.margins.recal: metric recal: there is no metric recal; did you mean",
        ),
        (
            "baseline: a\ncomparison: {margins: {nll: 1 percent}}\n",
            "comparison.margins: the margin of nll is '1 percent', which has no %; write a",
        ),
        ("baseline: a\ncomparison: {margins: 1}\n", "comparison.margins: is 1, not a section of keys"),
        ("baseline: a\ncomparison: {margin: 0}\n", "comparison.margin: should be greater than 0"),
        (
            "baseline: a\ncomparison: {confidence: 0.5}\n",
            "comparison.confidence: should be greater than 0.5, not 0.5",
        ),
        ("baseline: a\ndataset: {needle: {kinds: [hay]}}\n", "dataset.needle.kinds.0: should be 'single', "),
    ],
)
def test_mistake_is_told_in_words(tmp_path: Path, text: str, line: str) -> None:
    (found,) = lines(write(tmp_path, text))
    assert found.startswith(line)


def test_repeated_key_is_refused_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "baseline: a\nshard_size: 2\nshard_size: 4\n")
    assert lines(file) == [
        f"{file}:3: is not YAML: key 'shard_size' occurs twice; see `indexscope init` for a commented example"
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("extract: &x {chunk: *x}", "is not YAML: a value holds itself"),
        ("a: " + "[" * 101 + "]" * 101, "is not YAML: it is nested too deeply"),
        (
            "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]),
            "is not YAML: it holds more than 50,000 values",
        ),
        ("extract: {chunk: !!bool x}", "is not YAML: 'x' cannot be read as true or false"),
        ("a: !!timestamp x", "is not YAML: 'x' cannot be read as a date"),
        ("a: !!int ''", "is not YAML: '' cannot be read as an integer"),
        ("a: \0", "is not YAML (unacceptable character #x0000: "),
        ("a: " + "x" * 2**17, "cannot be read (it is longer than 131,072 bytes); give a YAML file in UTF-8"),
    ],
)
def test_what_a_parser_chokes_on_is_one_line(tmp_path: Path, line: str, reason: str) -> None:
    (found,) = lines(write(tmp_path, f"baseline: a\n{line}\n"))
    assert reason in found


def test_keys_may_be_merged_from_an_alias(tmp_path: Path) -> None:
    text = "baseline: &b {path: a, name: x}\ncandidates: [{<<: *b, path: c, name: z}]\n"
    assert [model.name for model in load_study(write(tmp_path, text)).models] == ["x", "z"]


@pytest.mark.parametrize("value", ["true", "yes", "off"])
@pytest.mark.parametrize("key", ["shard_size", "comparison.margin", "extract.chunk", "dataset.samples"])
def test_true_and_false_are_no_numbers(key: str, value: str) -> None:
    with pytest.raises(StudyError, match=rf"^--set {key}: should be a number, not (true|false); "):
        load_study(None, [f"{key}={value}"])


def test_a_number_in_quotes_and_a_whole_float_are_numbers() -> None:
    study = load_study(None, ["shard_size='8'", "extract.batch=2.0", "comparison.margin=1e-2", "dataset.packing=no"])
    assert (study.shard_size, study.extract.batch, study.comparison.margin) == (8, 2, 0.01)
    assert study.dataset.packing is False
    for value in ("8.5", "1e3", ".nan", ".inf", "99999999999999999"):
        with pytest.raises(StudyError):
            load_study(None, [f"shard_size={value}"])
    for value in (".nan", ".inf", "1e999"):
        with pytest.raises(StudyError, match="should be a finite number"):
            load_study(None, [f"comparison.margin={value}"])


def test_overrides_go_before_the_file_and_are_blamed_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, "baseline: a\ncandidates: [b]\nextract: {chunk: 32}\n")
    study = load_study(file, ["extract.chunk=64", "candidates.0.name=small", "dataset.samples=null", "gates=[nll < 9]"])
    assert (study.extract.chunk, study.candidates[0].path, study.candidates[0].name) == (64, "b", "small")
    assert study.dataset.samples is None
    assert lines(file, "extract.chunk=x")[0].startswith(
        "--set extract.chunk: should be an integer or should be 'auto', not 'x'; "
    )
    assert lines(file, "extract")[0] == "--set extract: is not key=value; write for example --set extract.chunk=128"
    assert (
        lines(file, "candidates.3.path=x")[0]
        == "--set candidates.3.path=x: there is no entry '3'; use a number below 1"
    )


def test_paths_are_relative_to_the_file_and_urls_stay(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    study = load_study(write(tmp_path, "baseline: models\ncandidates: [owner/name]\nstore: s3://bucket/x\n"))
    assert study.baseline.path == str(tmp_path / "models")
    assert study.candidates[0].path == "owner/name"
    assert (study.store, study.report) == ("s3://bucket/x", str(tmp_path / "reports"))
    assert study.name == "study"


def test_errors_cross_process_borders_whole() -> None:
    import pickle

    error = StudyError([IndexscopeError("a", "b", "c"), IndexscopeError("d", "e", "f")])
    assert str(pickle.loads(pickle.dumps(error))) == "a: b; c\nd: e; f"


def test_slugs_are_artifact_keys_and_tell_names_apart() -> None:
    assert slug("Light vs. baseline, 2 heads") == "light-vs-baseline-2-heads"
    assert slug("日本") != slug("中国")
    assert set(slug("../日本 <b>")) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
