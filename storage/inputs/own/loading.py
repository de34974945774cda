"""Run a user's loader: what it returns as a model in eval mode, what it raises as one line with the user's own line."""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from indexscope.errors import IndexscopeError, is_out_of_memory
from indexscope.foreign import words
from indexscope.storage.inputs.fingerprints import FingerprintMode, content_fingerprint
from indexscope.storage.inputs.model_skeleton import DTYPES, Dtype, resolve_device
from indexscope.storage.inputs.own.code import OwnCode, read_code
from indexscope.storage.inputs.own.importing import main_module
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.weight_checks import check_finite
from indexscope.storage.store.json_types import canonical_json

WANTED = (
    "return a transformers model, a torch module whose forward takes input_ids and returns logits, or an object with "
    "trace (docs/own-models.md)"
)
EXAMPLE = "write it as FILE.py:FUNCTION, for example models.py:load_sparse"


@dataclass(frozen=True)
class OwnModel:
    """A model as a function in the user's own file makes it.

    Attributes:
        code: The file, and what it imports from its tree.
        function: The loader's name.
        weights: File or folder that the loader gets first, as a path; None for none.
        arguments: Its keyword arguments, as canonical JSON.
    """

    code: OwnCode
    function: str
    weights: str | None = None
    arguments: str = "{}"

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.code.main.path}: {self.function}"

    def fingerprint(self, mode: FingerprintMode) -> str:
        """Hash of what determines the model: code, function, arguments and the content of the weights."""
        parts = {
            "code": self.code.digest,
            "function": self.function,
            "arguments": self.arguments,
            "weights": None if self.weights is None else content_fingerprint(Path(self.weights), mode),
        }
        return sha256(canonical_json(parts).encode()).hexdigest()

    def load(self, dtype: Dtype, device: str) -> object:
        """Call the loader, and put what it returns on the device, in this type, in eval mode and without gradients.

        Raises:
            IndexscopeError: The file or the loader raises, or what it returns is no model.
        """
        target = resolve_device(device)
        with quiet(), told_by(self.code, "mend it, or the `weights` and `arguments` that it is given", self.where):
            model = self._loader()(*self._given, **json.loads(self.arguments))
        if isinstance(model, type) or not (isinstance(model, nn.Module) or callable(getattr(model, "trace", None))):
            raise IndexscopeError(self.where, f"returned {_called(model)}, not a model", WANTED)
        if isinstance(model, nn.Module):
            _settle(model, DTYPES[dtype], target)
            check_finite(model, self.where)
        return model

    def told(self) -> AbstractContextManager[None]:
        """Turns what its code raises while it runs into one line."""
        return told_by(self.code, "mend it")

    @property
    def _given(self) -> tuple[Path, ...]:
        return () if self.weights is None else (Path(self.weights),)

    def _loader(self) -> Callable[..., Any]:
        module = main_module(self.code)
        loader: Callable[..., Any] | None = getattr(module, self.function, None)
        if not callable(loader):
            there = [name for name, value in vars(module).items() if _is_own(value, module.__name__)]
            remedy = f"give one of its functions: {', '.join(there)}" if there else "define that function in it"
            raise IndexscopeError(self.code.main.path, f"has no function {self.function!r}", remedy)
        try:
            signature = inspect.signature(loader)
        except (TypeError, ValueError):
            return loader
        try:
            signature.bind(*self._given, **json.loads(self.arguments))
        except TypeError as error:
            remedy = f"its arguments are {signature}: correct `weights` and `arguments`, or the function"
            raise IndexscopeError(self.where, f"cannot be called so ({words(error)})", remedy) from None
        return loader


def own_model(loader: str, top: Path, weights: str | None, arguments: Mapping[str, Any]) -> OwnModel:
    """Read what a study says of a model of the user's own; nothing of it runs.

    Args:
        loader: "FILE.py:FUNCTION".
        top: Folder of the study file.
        weights: File or folder for the loader.
        arguments: Keyword arguments for the loader.

    Raises:
        IndexscopeError: The file cannot be read or is not Python.
    """
    file, _, function = loader.rpartition(":")
    return OwnModel(read_code(Path(file), top), function, weights, canonical_json(arguments))


@contextmanager
def told_by(code: OwnCode, remedy: str, otherwise: str | None = None) -> Iterator[None]:
    """Turn what a user's own code raises into one line with the user's own file and line.

    Args:
        code: The code that runs.
        remedy: What to do.
        otherwise: What is named where an error came through no line of the code; None lets such an error be.

    Raises:
        IndexscopeError: Something was raised, other than memory that ran out.
    """
    try:
        yield
    except IndexscopeError as error:
        line = line_in(code, error.__cause__) if error.__cause__ else None
        if line is None:
            raise
        raise IndexscopeError(f"{line}: {error.where}", error.reason, error.remedy) from error.__cause__
    except (Exception, SystemExit) as error:
        where = line_in(code, error) or otherwise
        if where is None or is_out_of_memory(error):
            raise
        raise IndexscopeError(where, f"raised {type(error).__name__}: {words(error)}", remedy) from error


def line_in(code: OwnCode, error: BaseException) -> str | None:
    """The innermost line of the code that an error came through, as FILE:LINE; None if it came through none."""
    if isinstance(error, SyntaxError) and error.filename in {module.path for module in code.modules}:
        return f"{error.filename}:{error.lineno}"
    files = {module.path for module in code.modules}
    lines = [f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__) if at.filename in files]
    return lines[-1] if lines else None


def _settle(model: nn.Module, dtype: torch.dtype, device: str) -> None:
    """Type, device, eval mode, no gradients; what is not floating-point keeps its type, complex rotations too."""
    model._apply(lambda one: one.to(device, dtype if one.is_floating_point() else None))  # type: ignore[no-untyped-call]
    model.train(False)
    model.requires_grad_(False)


def _is_own(value: object, module: str) -> bool:
    return inspect.isfunction(value) and value.__module__ == module and not value.__name__.startswith("_")


def _called(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    if isinstance(value, Mapping) and any(isinstance(one, torch.Tensor) for one in value.values()):
        return "a state dict"
    if isinstance(value, tuple | list) and any(isinstance(one, nn.Module) for one in value):
        return f"a {type(value).__name__} with a model in it"
    return f"an object of type {type(value).__name__}"
