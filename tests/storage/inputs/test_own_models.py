"""A loader's code: what of it counts, that what was read is what runs, and every way to get it wrong."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from indexscope import IndexscopeError
from indexscope.storage.inputs.fingerprints import BLOCK, FULL_CHECKPOINT, PIECE, content_fingerprint
from indexscope.storage.inputs.own.code import read_code
from indexscope.storage.inputs.own.loading import OwnModel, own_model

MODELS = """\
import math
import torch
from nets.layers import Layer
from nets import sizes

class Model(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.layer, self.scale = Layer(), scale
        self.register_buffer("turn", torch.polar(torch.ones(2), torch.ones(2)))
        self.width = sizes.WIDTH

    def forward(self, input_ids):
        from late import answer
        return self.layer(input_ids) * self.scale + answer()

def load(weights=None, scale=1.0):
    return Model(scale)
"""
TREE = {
    "models.py": MODELS,
    "nets/layers.py": "import torch\nfrom .sizes import WIDTH\n\nclass Layer(torch.nn.Linear):\n"
    "    def __init__(self):\n        super().__init__(WIDTH, WIDTH)\n",
    "nets/sizes.py": "WIDTH = 4\n",
    "late.py": "def answer():\n    return 42.0\n",
    "unused.py": "raise RuntimeError\n",
}


def planted(folder: Path, files: Mapping[str, str] = TREE) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def of(
    folder: Path, function: str = "load", weights: Path | None = None, file: str = "models.py", **more: Any
) -> OwnModel:
    return own_model(f"{folder / file}:{function}", folder, str(weights) if weights else None, more)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return planted(tmp_path / "exp")


def test_the_code_is_the_file_and_what_it_imports_from_its_tree(tree: Path) -> None:
    code = read_code(tree / "models.py", tree)
    assert [module.name for module in code.modules] == ["models", "late", "nets.layers", "nets.sizes"]
    assert [module.content.decode() for module in code.modules[:2]] == [TREE["models.py"], TREE["late.py"]]


@pytest.mark.parametrize("file", [name for name in TREE if name != "unused.py"])
def test_an_edit_of_any_of_its_files_is_another_model(tree: Path, file: str) -> None:
    before = of(tree).fingerprint("sampled")
    (tree / file).write_text(TREE[file] + "# changed\n")
    assert of(tree).fingerprint("sampled") != before


def test_what_it_does_not_import_and_where_it_lies_do_not_count(tree: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(3)}, weights)
    before = of(tree, weights=weights, scale=2.0).fingerprint("sampled")
    (tree / "unused.py").write_text("different\n")
    moved = tree.rename(tmp_path / "moved")
    elsewhere = weights.rename(tmp_path / "other name.pt")
    assert of(moved, weights=elsewhere, scale=2.0).fingerprint("sampled") == before
    others = [
        of(moved, weights=elsewhere, scale=2),
        of(moved, weights=elsewhere),
        of(moved, scale=2.0),
        of(moved, "Model", weights=elsewhere, scale=2.0),
    ]
    torch.save({"a": torch.zeros(3)}, elsewhere)
    marks = {one.fingerprint("sampled") for one in (*others, of(moved, weights=elsewhere, scale=2.0))}
    assert len(marks - {before}) == 5


def test_two_experiments_whose_files_bear_the_same_names_do_not_meet(tree: Path, tmp_path: Path) -> None:
    other = planted(
        tmp_path / "other", {**TREE, "nets/sizes.py": "WIDTH = 6\n", "late.py": "def answer():\n    return 7.0\n"}
    )
    x = torch.zeros(1, 4), torch.zeros(1, 6)
    widths, answers = [], []
    for folder in (tree, other, tree):
        model: Any = of(folder, scale=0.0).load("float32", "cpu")
        widths.append(model.width)
        answers.append(model(x[model.width == 6])[0, 0].item())  # imports late.py
    assert (widths, answers) == ([4, 6, 4], [42.0, 7.0, 42.0])


def test_what_was_read_is_what_runs_even_if_the_file_changes_meanwhile(tree: Path) -> None:
    own = of(tree, scale=0.0)
    (tree / "late.py").write_text("def answer():\n    return 43.0\n")
    (tree / "nets" / "layers.py").unlink()
    again: OwnModel = pickle.loads(pickle.dumps(own))
    model: Any = again.load("float32", "cpu")
    assert model(torch.zeros(1, 4))[0, 0].item() == 42.0


def test_a_module_of_others_comes_back_when_the_tree_is_left(tree: Path, tmp_path: Path) -> None:
    sys.modules["late"] = theirs = type(sys)("late")
    try:
        of(tree).load("float32", "cpu")
        of(
            planted(
                tmp_path / "other", {"models.py": "import torch\n\ndef load():\n    return torch.nn.Linear(1, 1)\n"}
            )
        ).load("float32", "cpu")
        assert sys.modules["late"] is theirs
        assert "nets.layers" not in sys.modules
    finally:
        sys.modules.pop("late", None)


def test_a_file_of_a_package_imports_from_the_folder_around_it(tmp_path: Path) -> None:
    files = {
        "study/exp/__init__.py": "",
        "study/exp/net.py": "from . import parts\nfrom common.base import Base\n\n"
        "def load():\n    return Base(parts.N)\n",
        "study/exp/parts.py": "N = 3\n",
        "study/common/base.py": "from torch import nn\n\nclass Base(nn.Linear):\n"
        "    def __init__(self, n):\n        super().__init__(n, n)\n",
    }
    folder = planted(tmp_path, files) / "study"
    own = own_model(f"{folder / 'exp' / 'net.py'}:load", folder, None, {})
    assert [module.name for module in own.code.modules] == ["exp.net", "common.base", "exp", "exp.parts"]
    model: Any = own.load("float32", "cpu")
    assert model.in_features == 3
    alone = read_code(folder / "exp" / "net.py", tmp_path / "elsewhere")
    assert [module.name for module in alone.modules] == ["exp.net", "common.base", "exp", "exp.parts"]


def test_types_are_cast_but_rotations_stay_complex_and_gradients_are_off(tree: Path) -> None:
    model: Any = of(tree).load("bfloat16", "cpu")
    assert model.layer.weight.dtype == torch.bfloat16
    assert model.turn.dtype == torch.complex64
    assert not model.training
    assert not model.layer.weight.requires_grad


def loader(body: str) -> str:
    return f"import torch\n\ndef load(weights=None):\n    {body}\n"


WRONG: dict[str, tuple[str, str]] = {
    "raises": (loader("raise ValueError('no such layer')"), r"models\.py:4: raised ValueError: no such layer; mend it"),
    "raises below": (
        loader("return torch.nn.Linear(-1, 2)"),
        r"models\.py:4: raised RuntimeError: Trying to create tensor with negative dimension",
    ),
    "raises at import": ("x = 1\nraise OSError('gone')\n", r"models\.py:2: raised OSError: gone"),
    "exits": (loader("raise SystemExit(3)"), r"models\.py:4: raised SystemExit: 3"),
    "is no Python": ("def load(:\n", r"models\.py:1: is not Python: "),
    "is binary": ("\x00\x01", r"models\.py: is not Python"),
    "has no such function": (
        "def lead():\n    pass\n",
        r"models\.py: has no function 'load'; give one of its functions: lead$",
    ),
    "returns nothing": (
        loader("pass"),
        r"models\.py: load: returned nothing, not a model; return a transformers model, a ",
    ),
    "returns a state dict": (loader("return {'a': torch.ones(1)}"), "load: returned a state dict, not a model"),
    "returns a pair": (
        loader("return torch.nn.Linear(1, 1), None"),
        "returned a tuple with a model in it, not a model",
    ),
    "returns a class": (loader("return torch.nn.Linear"), "returned the class Linear itself, not a model"),
    "is not finite": (
        loader("model = torch.nn.Linear(2, 2); model.weight.data[0, 0] = float('nan'); return model"),
        "load: weight weight has 1 of 4 elements that are NaN or infinite",
    ),
    "imports unseen": (
        "import importlib\n\ndef load():\n    return importlib.import_module('unused')\n",
        r"models\.py:4: raised ImportError: .*unused\.py is imported without an import statement.*`import unused`",
    ),
    "imports what is not there": (
        "import nowhere_to_be_found\n",
        r"models\.py:1: raised ModuleNotFoundError: No module named",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_with_a_loader_is_one_line_of_the_users_own_file(tmp_path: Path, how: str) -> None:
    content, expected = WRONG[how]
    folder = planted(tmp_path, {"models.py": content, "unused.py": "x = 1\n"})
    with pytest.raises(IndexscopeError) as caught:
        of(folder).load("float32", "cpu")
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"top_k": 3},
            r"load: cannot be called so \(got an unexpected keyword argument 'top_k'\); its arguments are \(we",
        ),
        ({"weights": Path("w.pt"), "scale": 1}, None),
    ],
)
def test_arguments_that_do_not_fit_are_told_before_anything_runs(
    tree: Path, given: dict[str, Any], expected: str | None
) -> None:
    own = of(tree, **given)
    if expected is None:
        assert isinstance(own.load("float32", "cpu"), nn.Module)
        return
    with pytest.raises(IndexscopeError, match=expected):
        own.load("float32", "cpu")


def test_a_file_of_the_tree_that_is_not_python_is_named(tree: Path) -> None:
    (tree / "nets" / "sizes.py").write_text("WIDTH = = 4\n")
    with pytest.raises(IndexscopeError, match=r"nets/sizes\.py:1: is not Python: "):
        of(tree)


def sparse(path: Path, changes: Mapping[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(FULL_CHECKPOINT + 3 * PIECE + 17)
        for place, content in changes.items():
            file.seek(place, 0 if place >= 0 else 2)
            file.write(content)


def test_content_is_hashed_in_full_up_to_a_size_and_in_samples_beyond(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"a" * 300_000)
    assert content_fingerprint(small, "sampled") == content_fingerprint(small, "full")
    sparse(large, {})
    plain = content_fingerprint(large, "sampled"), content_fingerprint(large, "full")
    assert plain[0] != plain[1]
    for place in (0, 5 * PIECE + BLOCK - 1, -1):
        sparse(large, {place: b"x"})
        assert content_fingerprint(large, "sampled") != plain[0], place
    sparse(large, {PIECE // 2: b"x"})
    assert content_fingerprint(large, "sampled") == plain[0]
    assert content_fingerprint(large, "full") != plain[1]


def test_a_folder_of_weights_counts_by_names_and_contents_without_hidden_files(tmp_path: Path) -> None:
    folder = planted(tmp_path / "a", {"x/1.bin": "one", "2.bin": "two", ".git/HEAD": "main"})
    before = content_fingerprint(folder)
    planted(folder, {".git/HEAD": "other", ".cache": ""})
    assert content_fingerprint(folder.rename(tmp_path / "b")) == before
    (tmp_path / "b" / "2.bin").rename(tmp_path / "b" / "3.bin")
    assert content_fingerprint(tmp_path / "b") != before
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexscopeError, match="holds no file"):
        content_fingerprint(tmp_path / "empty")
