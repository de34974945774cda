"""Whatever a study file, an override, a path or an input holds: it works, or each problem is one line, soon."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from indexscope import IndexscopeError
from indexscope.flows.study.config import Study
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.flows.study.status import status
from indexscope.storage.inputs.data_files import data_files
from indexscope.storage.inputs.documents import documents
from indexscope.storage.store.store import Store
from indexscope.storage.studies.reports import read_report
from tests.tiny import save_model

#: Examples of each test; a long run by hand sets thousands.
EXAMPLES = int(os.environ.get("INDEXSCOPE_FUZZ", "25"))
#: Five seconds are the promise; a machine that does other work takes four times as long.
SECONDS = 20.0
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="INDEXSCOPE_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope="module")
def offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


def told(act: Callable[[], object]) -> str | None:
    """Run something; the error that a user reads, or None if it went well. Any other error is a defect."""
    started = time.monotonic()
    try:
        act()
        said = None
    except IndexscopeError as error:
        said = str(error)
        problems = getattr(error, "problems", (error,))
        assert len(said.splitlines()) == len(problems), said
        assert all(problem.where and problem.reason and problem.remedy for problem in problems), said
        assert said.replace("\n", "").isprintable(), said
    assert time.monotonic() - started < SECONDS
    return said


def keys_of(model: Any, prefix: str = "") -> Iterator[str]:
    from indexscope.flows.study.problems import submodel

    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if (inner := submodel(field)) is not None:
            yield from keys_of(inner, f"{prefix}{name}.")


KEYS = sorted(keys_of(Study))
#: Scalars that YAML or Python reads in a way of its own, or not at all.
SCALARS = (
    *("2026-02-30", "2026-02-28", "!!int foo", "!!bool x", "!!timestamp x", "!!binary x", "!!float x", "!!int ''"),
    *("!!python/object:os.system x", "!!set {a}", "!!omap [a: b]", "!!null x", "!x y", "9" * 5000, "-" + "9" * 400),
    *("1e999", ".inf", ".nan", "0x_", "1_000", "190:20:30", "~", "yes", "true", "[]", "{}", "''", "' '", '"\\0"'),
    *('"\\ud800"', '"\\x1b[31m"', '"a\\nb"', "*nowhere", "&a [*a]", "&a {b: *a}", "<<: 3", "{<<: {a: b}}", "? [a]"),
    *("[" * 400, "{a: " * 400, "'", '"', "|", "a: b: c", "- a", "%", "@", "`", "../../x", "/proc/nope", "/dev/zero"),
    *("x" * 10_000, "/" + "x" * 5000, "~nobody/x", "s3://[", "nosuch://x", "http://me:secret@host/x", "builtin:x"),
)
scalars = st.one_of(st.sampled_from(SCALARS), st.integers().map(str), st.floats().map(str), st.text(max_size=20))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def written(folder: Path, content: bytes) -> Path:
    file = folder / "study.yaml"
    file.write_bytes(content)
    return file


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="indexscope-fuzz-"))
    yield folder
    shutil.rmtree(folder)


@bounded
@given(lines=st.lists(st.tuples(st.sampled_from([*KEYS, "no_such_key"]), scalars), max_size=4))
def test_any_scalar_under_any_key_is_read_or_told(place: Path, lines: list[tuple[str, str]]) -> None:
    text = "baseline: builtin:baseline\n"
    for key, value in lines:
        parts = key.split(".")
        text += "".join("  " * depth + f"{part}:\n" for depth, part in enumerate(parts[:-1]))
        text += "  " * (len(parts) - 1) + f"{parts[-1]}: {value}\n"
    file = written(place, text.encode("utf-8", "surrogatepass"))
    told(lambda: load_study(file))


@bounded
@given(changes=st.lists(st.tuples(st.sampled_from(KEYS), values), min_size=1, max_size=4))
def test_a_value_of_the_wrong_type_is_told(place: Path, changes: list[tuple[str, Any]]) -> None:
    raw: dict[str, Any] = {"baseline": "builtin:baseline"}
    for key, value in changes:
        inside = raw
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(inside.get(parent), dict):
                inside[parent] = {}
            inside = inside[parent]
        inside[last] = value
    file = written(place, yaml.safe_dump(raw, allow_unicode=True).encode("utf-8", "surrogatepass"))
    told(lambda: load_study(file))


@bounded
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-16"))))
def test_any_bytes_are_no_study_and_are_told(place: Path, content: bytes) -> None:
    file = written(place, content)
    assert told(lambda: load_study(file))


@bounded
@given(
    overrides=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(KEYS), scalars).map("=".join),
            st.tuples(st.sampled_from(KEYS), st.sampled_from(["0", "-1", "9" * 30, "path", "x.y"])).map(".".join),
            st.text(max_size=30),
            st.tuples(st.text("ab.0", max_size=60), scalars).map("=".join),
        ),
        max_size=3,
    )
)
def test_any_override_is_taken_or_told(overrides: list[str]) -> None:
    told(lambda: load_study(None, overrides))


@pytest.fixture(scope="module")
def oddities(place: Path) -> dict[str, str]:
    """Paths where nothing can be read, or something else than was asked for."""
    (place / "file").write_bytes(b"\x00\xff not a thing")
    (place / "folder").mkdir()
    (place / "loop").symlink_to(place / "loop")
    (place / "dangling").symlink_to(place / "nowhere")
    for name in ("folder.json", "folder.yaml", "folder.jsonl", "folder.parquet"):
        (place / name).mkdir()
    for name in ("config.json", "model.safetensors", "report.json", "tokenizer.json"):
        (place / "folders" / name).mkdir(parents=True)
    os.mkfifo(place / "pipe")
    inside = ["file", "file/below", "folder", "loop", "loop/below", "dangling", "folders", "pipe", "x" * 300, "a\0b"]
    inside += ["folder.json", "folder.yaml", "folder.jsonl", "folder.parquet", "/".join(["x" * 200] * 30), "\udcff"]
    outside = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/proc/nope",
        "/proc/self/mem",
        "/proc/1/root/x",
        "",
        " ",
        "~nobody",
    ]
    return {name[:20]: str(place / name) for name in inside} | {name: name for name in outside}


@pytest.mark.parametrize("kind", ["study", "baseline", "candidates", "dataset.source", "store", "report", "plugins"])
def test_any_path_is_taken_or_told(place: Path, oddities: dict[str, str], kind: str) -> None:
    save_once(place)
    for path in oddities.values():
        if kind == "study":
            if not path.endswith("/pipe"):  # somebody may yet write into it
                assert told(lambda path=path: load_study(path))
            continue
        value = f"[{json.dumps(path)}]" if kind in ("candidates", "plugins") else json.dumps(path)
        content = "name: x\nbaseline: models/base\ndataset: {source: data.jsonl, max_length: 16}\n"
        file = written(place, content.encode())
        told(lambda file=file, value=value: status(make_plan(load_study(file, [f"{kind}={value}"]))))


def test_any_path_of_a_store_or_a_report_is_taken_or_told(oddities: dict[str, str]) -> None:
    def write(path: str) -> None:
        store = Store(path)
        store.folder.write("a/b", b"")

    for name, path in oddities.items():
        told(lambda path=path: Store(path).list_steps())
        told(lambda path=path: read_report(path))
        if name not in ("folder", "dangling", "folders") and not name.startswith("folder."):
            assert name in ("", "~nobody") or told(lambda path=path: write(path)) or name == "\udcff"


def save_once(place: Path) -> None:
    """A tiny checkpoint with a tokenizer, and a dataset of token ids."""
    if (place / "models" / "base").exists():
        return
    save_model(place / "models" / "base", heads=1, seed=0)
    plain = Tokenizer(models.WordLevel({f"w{number}": number for number in range(300)}, unk_token="w0"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="w0").save_pretrained(place / "models" / "base")
    (place / "data.jsonl").write_text(json.dumps({"text": "w1 w2 w3 " * 8}) + "\n")


damage = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.just(0)),
    st.tuples(st.just("zero"), st.floats(0, 1, exclude_max=True), st.integers(1, 64)),
    st.tuples(st.just("nest"), st.floats(0, 1, exclude_max=True), st.integers(50, 3000)),
    st.tuples(st.just("digits"), st.floats(0, 1, exclude_max=True), st.sampled_from([9, 19, 400, 5000])),
)


def spoilt(data: bytes, how: tuple[str, float, int]) -> bytes:
    kind, share, amount = how
    at = int(share * len(data))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << amount)]) + data[at + 1 :]
    middle = {"cut": b"", "zero": bytes(amount), "nest": b"[" * amount, "digits": b"9" * amount}[kind]
    return data[:at] + middle + (b"" if kind == "cut" else data[at:])


#: Where the part of a file ends that is not weights.
HEADS = {"model.safetensors": 4000}


@bounded
@given(
    name=st.sampled_from(
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    ),
    how=st.lists(damage, min_size=1, max_size=3),
)
def test_a_damaged_checkpoint_is_planned_or_told(place: Path, name: str, how: list[tuple[str, float, int]]) -> None:
    save_once(place)
    spoil_checkpoint(place, name, lambda data: apply(data, how))


KEYS_OF_CONFIG = ["num_hidden_layers", "index_topk", "vocab_size", "hidden_size", "quantization_config", "dtype"]
KEYS_OF_CONFIG += ["rope_parameters", "layer_types", "architectures", "eos_token_id", "model_type", "text_config"]
KEYS_OF_CONFIG += ["max_position_embeddings", "rms_norm_eps", "index_n_heads", "auto_map", "hidden_act", "id2label"]


@bounded
@given(changes=st.dictionaries(st.sampled_from(KEYS_OF_CONFIG), values, min_size=1, max_size=3))
def test_any_value_in_a_config_is_planned_or_told(place: Path, changes: dict[str, Any]) -> None:
    def change(data: bytes) -> bytes:
        return json.dumps({**json.loads(data), **changes}, default=str).encode()

    save_once(place)
    spoil_checkpoint(place, "config.json", change)


def apply(data: bytes, how: list[tuple[str, float, int]]) -> bytes:
    for one in how:
        data = spoilt(data or b" ", one)
    return data


def spoil_checkpoint(place: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    file = place / "models" / "base" / name
    whole = file.read_bytes()
    head = HEADS.get(name, len(whole))
    content = "name: x\nbaseline: models/base\ndataset: {source: data.jsonl, max_length: 16}\n"
    study = written(place, content.encode())
    try:
        file.write_bytes(change(whole[:head]) + whole[head:])
        told(lambda: make_plan(load_study(study)))
    finally:
        file.write_bytes(whole)


def table(name: str) -> bytes:
    frame = pl.DataFrame({"text": [f"text ä {number}" for number in range(40)], "input_ids": [[1, 2, 3]] * 40})
    with tempfile.NamedTemporaryFile() as file:
        (frame.write_parquet if name.endswith("parquet") else frame.write_ndjson)(file.name)
        return Path(file.name).read_bytes()


TABLES = {name: table(name) for name in ("a.parquet", "a.jsonl")}


@bounded
@given(
    name=st.sampled_from(sorted(TABLES)),
    column=st.sampled_from(["text", "input_ids", "none", "\ud800"]),
    how=st.lists(damage, min_size=1, max_size=3),
)
def test_a_damaged_table_is_read_or_told(
    place: Path, name: str, column: str, how: list[tuple[str, float, int]]
) -> None:
    file = place / name
    file.write_bytes(apply(TABLES[name], how))
    told(lambda: list(documents(data_files(str(file), "train"), column)))
