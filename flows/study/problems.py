"""Pydantic's validation errors as lines that a person can act on."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from datetime import date
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from indexscope import IndexscopeError
from indexscope.flows.study.config import Study


def problems_of(
    error: ValidationError, title: str, overridden: Sequence[str] = (), root: type[BaseModel] = Study
) -> list[IndexscopeError]:
    """One problem per key at fault, in the order of the file.

    Args:
        error: What pydantic found in a file.
        title: The file as the user named it.
        overridden: Dotted keys that came from ``--set`` and not from the file.
        root: What the file should be.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False, include_context=False):
        by_key.setdefault(_dotted(details["loc"], root), []).append(details)
    problems = []
    for key, all_details in by_key.items():
        if all_details[0]["type"] == "too_short" and any(other.startswith(f"{key}.") for other in by_key):
            continue  # pydantic counts the entries that are left
        from_set = any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in overridden)
        where = f"--set {key}" if from_set else f"{title}: {key}" if key else title
        reason, remedy = _explain(key, all_details, root)
        problems.append(IndexscopeError(where, reason, remedy))
    return problems


def _explain(key: str, all_details: Sequence[ErrorDetails], root: type[BaseModel]) -> tuple[str, str]:
    details = all_details[0]
    parent, _, last = key.rpartition(".")
    if details["type"] == "extra_forbidden":
        return "unknown key", _suggestion(key, last, parent, root)
    field = _field(key, root)
    if details["type"] == "missing":
        return "is missing", _meaning(field, "add it")
    value = _shown(details["input"])
    if details["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"is {value}, not a section of keys", _meaning(field, "indent its keys below it")
    if details["type"] == "value_error":
        reason, _, remedy = details["msg"].removeprefix("Value error, ").partition("; ")
        return reason, remedy or _meaning(field, "correct it")
    if details["type"] == "string_type" and isinstance(details["input"], (int, float, date)):
        return f"should be text, not {value}", "put it in quotes"
    wanted = " or ".join(dict.fromkeys(_wanted(entry["msg"]) for entry in all_details))
    return f"{wanted}, not {value}", _meaning(field, "correct it")


#: What pydantic says, and what a person who writes YAML calls it; put into its messages in this order.
WORDS = {
    r"^(Input|String|Tuple|List|Dictionary|Value|Set)s? should ": "should ",
    r"\ba valid tuple\b": "a list",
    r"\ba valid string\b": "text",
    r"\ba valid ": "a ",
    r"\ba integer\b": "an integer",
    r" after validation(, not \d+)?$": "",
    r", unable to parse.*|, got a number with a fractional part$": "",
    r"^Unable to parse input string as an integer, exceeded maximum size$": "should be an integer that can be stored",
}


def _wanted(message: str) -> str:
    for pattern, plain in WORDS.items():
        message = re.sub(pattern, plain, message)
    return message


def _shown(value: object) -> str:
    """A value as YAML would have it, cut off where it is long."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, date):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _meaning(field: FieldInfo | None, otherwise: str) -> str:
    return field.description.rstrip(".") if field is not None and field.description else otherwise


def _suggestion(key: str, last: str, parent: str, root: type[BaseModel]) -> str:
    known = list(_all_keys(root))
    # The right key in the wrong place (clustering.clusters for analyses.clustering.clusters) comes before a near miss.
    moved = [name for name in known if name.endswith(f".{key}")] or [
        name for name in known if name.endswith(f".{last}")
    ]
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == _unnumbered(parent)]
    close = difflib.get_close_matches(last, siblings, 1, 0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if moved:
        return f"did you mean {moved[0]!r}?"
    return f"the keys here are {', '.join(siblings)}" if siblings else "remove it"


def _dotted(location: tuple[int | str, ...], root: type[BaseModel]) -> str:
    """Names and numbers that the user wrote, without the tags that pydantic adds for branches of a union."""
    parts: list[str] = []
    for part in location:
        key = ".".join([*parts, str(part)])
        if isinstance(part, str) and parts and _field(key, root) is None and _model_at(".".join(parts), root) is None:
            break
        parts.append(str(part))
    return ".".join(parts)


def _unnumbered(key: str) -> str:
    return ".".join(part for part in key.split(".") if not part.isdecimal())


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = submodel(field)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def submodel(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field, or each entry of a field, is made of; None for plain values."""
    return next(
        (kind for kind in _types(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None
    )


def _types(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin in (tuple, list, typing.Union, UnionType, typing.Annotated):
        for argument in typing.get_args(annotation):
            yield from _types(argument)
    else:
        yield annotation


def _model_at(key: str, root: type[BaseModel]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    for part in filter(None, _unnumbered(key).split(".")):
        field = model.model_fields.get(part) if model else None
        model = submodel(field) if field else None
    return model


def _field(key: str, root: type[BaseModel]) -> FieldInfo | None:
    parent, _, last = _unnumbered(key).rpartition(".")
    model = _model_at(parent, root)
    return model.model_fields.get(last) if model else None
