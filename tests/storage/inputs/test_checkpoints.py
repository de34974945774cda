"""Where checkpoints are found, what they say of themselves, and what is refused before anything is loaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs import checkpoints, hub
from indexscope.storage.inputs.checkpoints import builtin_names, describe, load_tokenizer, resolve
from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.inputs.weight_files import weight_files


def test_a_folder_is_found_as_it_is(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    assert resolve(folder) == resolve(str(folder)) == folder.resolve()


def test_a_builtin_name_is_a_packaged_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BUILTIN_FOLDER", tmp_path)
    with pytest.raises(IndexscopeError, match="no built-in checkpoints"):
        resolve("builtin:baseline")
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "config.json").write_text("{}")
    assert resolve("builtin:baseline") == tmp_path / "baseline"
    assert builtin_names() == ["baseline"]
    for name in ("builtin:other", "builtin:../baseline", "builtin:"):
        with pytest.raises(IndexscopeError, match="builtin:baseline"):
            resolve(name)


@pytest.mark.parametrize(
    "name", ["a/b/c", "../nowhere", "/nowhere/at/all", "~nobody-here/x/y", "", "x y", "a\0b", "x" * 5000]
)
def test_a_path_that_is_not_there_never_reaches_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(IndexscopeError, match="does not exist"):
        describe(resolve(name))


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(IndexscopeError, match="is a file"):
        resolve(tmp_path / "model.safetensors")


def test_a_checkpoint_describes_itself(checkpoint: Callable[..., Path]) -> None:
    sparse = describe(checkpoint("deepseek_v32", "sparse"))
    assert (sparse.family, sparse.indexer_heads, sparse.indexer_dim, sparse.index_topk) == ("deepseek_v32", 2, 16, 4)
    assert (sparse.layers, sparse.hidden_size, sparse.vocab_size, sparse.dtypes) == (2, 32, 64, ("F32",))
    assert sparse.bytes > 4 * sparse.parameters
    dense = describe(checkpoint("gpt2", "dense"))
    assert (dense.layers, dense.hidden_size, dense.attention_heads, dense.max_positions) == (2, 32, 2, 1024)
    assert dense.indexer_heads is None


def test_a_description_counts_every_stored_weight(checkpoint: Callable[..., Path]) -> None:
    whole, cut = checkpoint(name="whole"), checkpoint(name="cut", max_shard_size="20KB")
    assert describe(whole).parameters == describe(cut).parameters
    elements = sum(entry.elements for entry in read_header(whole / "model.safetensors").tensors)
    assert describe(whole).parameters == elements


def refused(folder: Path) -> str:
    with pytest.raises(IndexscopeError) as caught:
        describe(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_are_no_checkpoint_are_told_apart(tmp_path: Path) -> None:
    assert "has no config.json" in refused(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapter" in refused(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("{")
    assert "not valid JSON" in refused(tmp_path)
    config.write_text("[" * 100_000)
    assert "not valid JSON" in refused(tmp_path)
    config.write_text("[]")
    assert "model_type" in refused(tmp_path)
    config.write_text('{"model_type": "llama"}')
    assert "has neither" in refused(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "pickle" in refused(tmp_path)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "weights.bin", "a/b.safetensors", 3])
def test_an_index_cannot_point_elsewhere(tmp_path: Path, name: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(IndexscopeError, match="not a safetensors file of this folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"w": [1]}}']
)
def test_a_broken_index_is_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(IndexscopeError, match="index"):
        weight_files(tmp_path)


def test_a_missing_shard_is_named(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(max_shard_size="20KB")
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    assert lost.name in refused(folder)


HEADERS = {
    "empty": b"",
    "short": b"\x01\x02",
    "long header": (2**60).to_bytes(8, "little") + b"{}",
    "no json": (2).to_bytes(8, "little") + b"{]",
    "list": (2).to_bytes(8, "little") + b"[]",
    "backwards": (70).to_bytes(8, "little")
    + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'.ljust(70)
    + b"1234",
    "longer": (70).to_bytes(8, "little")
    + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(70)
    + b"12345",
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_file_that_is_no_safetensors_is_one_clear_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(HEADERS[case])
    with pytest.raises(IndexscopeError, match="safetensors"):
        read_header(tmp_path / "model.safetensors")


def test_a_tokenizer_comes_from_the_folder(checkpoint: Callable[..., Path], tokenizer: PreTrainedTokenizerFast) -> None:
    folder = checkpoint()
    with pytest.raises(IndexscopeError, match="has no tokenizer"):
        load_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    assert load_tokenizer(folder)("w5 w7")["input_ids"] == [5, 7]


def test_a_broken_tokenizer_is_one_clear_line(
    checkpoint: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = checkpoint()
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text('{"model":')
    with pytest.raises(IndexscopeError, match=r"tokenizer\.json: is not valid JSON") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_code_of_a_tokenizer_is_never_run(checkpoint: Callable[..., Path], tokenizer: PreTrainedTokenizerFast) -> None:
    folder = checkpoint()
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    own = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    (folder / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Evil: pass")
    with contextlib.suppress(IndexscopeError):
        load_tokenizer(folder)
    assert not (folder / "ran").exists()
