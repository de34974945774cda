"""Hub names: what is asked for, and one line for everything that the hub can answer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PreTrainedTokenizerFast

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs import datasets, hub
from indexscope.storage.inputs.checkpoints import HUB_FILES, resolve
from indexscope.storage.inputs.data_files import data_files
from indexscope.storage.inputs.datasets import DatasetSettings, load_samples

# Which HTTP library the hub's client is built on differs between its versions.
httpx: Any = import_module(HTTPError.__module__.partition(".")[0])
RESPONSE: Any = httpx.Response(404, request=httpx.Request("GET", "https://example.invalid"))


def test_a_revision_is_taken_from_the_name_and_only_safe_files_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, **settings: Any) -> str:
        asked.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert resolve("owner/model@v1.0") == tmp_path
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("owner/model", "v1.0", "model")
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in HUB_FILES)
    resolve("owner/model")
    assert asked["revision"] is None


ANSWERS = [
    (RepositoryNotFoundError("x\ny", response=RESPONSE), "no public hub"),
    (GatedRepoError("x", response=RESPONSE), "gated"),
    (RevisionNotFoundError("x", response=RESPONSE), "revision"),
    (LocalEntryNotFoundError("x"), "cannot be reached"),
    (httpx.ConnectError("x"), "cannot be reached"),
    (httpx.ReadTimeout("x"), "cannot be reached"),
    (OfflineModeIsEnabled("x"), "cannot be reached"),
    (HFValidationError("x"), "check the name"),
]


@pytest.mark.parametrize(("answer", "words"), ANSWERS, ids=[type(answer).__name__ for answer, _ in ANSWERS])
def test_every_answer_of_the_hub_is_one_clear_line(
    answer: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise answer

    monkeypatch.setattr(hub, "snapshot_download", fail)
    monkeypatch.setattr(HfApi, "dataset_info", fail)
    for ask in (lambda: resolve("owner/name"), lambda: data_files("owner/name", "train")):
        with pytest.raises(IndexscopeError, match=words) as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("owner/name: ")


class FakeHub:
    """A dataset repository with files by name, and a record of what was fetched from it."""

    def __init__(self, folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.files, self.online = folder / "0a1b2c", files, True
        self.fetched: list[str] = []
        monkeypatch.setattr(HfApi, "dataset_info", lambda _, *args, **settings: self.info())
        monkeypatch.setattr(hub, "hf_hub_download", lambda _, name, **settings: self.fetch(name, **settings))
        monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(self.folder))

    def info(self) -> Any:
        if not self.online:
            raise httpx.ConnectError("no network")
        return SimpleNamespace(sha="0a1b2c", siblings=[SimpleNamespace(rfilename=name) for name in self.files])

    def fetch(self, name: str, revision: str, repo_type: str) -> str:
        assert (revision, repo_type) == ("0a1b2c", "dataset")
        path = self.folder / name
        if not path.exists():
            assert self.online
            self.fetched.append(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.files[name])
        return str(path)


def test_of_a_hub_dataset_only_what_is_needed_is_fetched_and_found_again_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast
) -> None:
    monkeypatch.setattr(datasets, "WINDOW", 30)
    files = {f"data/train-{n:02d}.jsonl": f'{{"text": "{" ".join([f"w{n}"] * 8)}"}}\n' for n in range(20)}
    fake = FakeHub(tmp_path, files | {"data/test.jsonl": "", "README.md": "", "load.py": "", "w.bin": ""}, monkeypatch)
    chosen = DatasetSettings(source="owner/data", max_length=4, samples=5)
    online = load_samples(chosen, tokenizer, 64)
    assert 0 < len(fake.fetched) <= 4
    assert all(name.startswith("data/train-") for name in fake.fetched)
    fake.online = False
    assert load_samples(chosen, tokenizer, 64) == online


def test_a_hub_dataset_without_tables_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub(tmp_path, {"README.md": "", "images.tar": ""}, monkeypatch)
    with pytest.raises(IndexscopeError, match="no Parquet or JSONL"):
        data_files("owner/data", "train")
