"""The base of everything that a study file sets: immutable, strict about keys, and about what is a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

#: The largest number that every reader of JSON takes for what it is, and more than anything can be counted to.
LARGEST = 2**53


class Frozen(BaseModel):
    """Settings: an unknown key is an error, and so is a number that is none.

    Text that spells a number ("8", and 1e-2, which YAML takes for text) and a whole float (8.0) are numbers; true and
    false are not, though Python counts with them, nor are infinity and NaN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = list(_kinds(cls.model_fields[info.field_name or ""].annotation))
        settings = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
        if not settings and bool not in kinds and (int in kinds or float in kinds):
            found = next((one for one in _leaves(value) if isinstance(one, bool)), None)
            if found is not None:
                raise ValueError(f"should be a number, not {str(found).lower()}")
        return value

    @field_validator("*")
    @classmethod
    def _no_endless_number(cls, value: Any) -> Any:
        if any(isinstance(one, int) and abs(one) > LARGEST for one in _leaves(value)):
            raise ValueError(f"is too large a number; at most {LARGEST} can be stored exactly")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _leaves(value: Any) -> Iterator[Any]:
    """The values in lists and in what is written as keys and values; settings of their own check themselves."""
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _leaves(one)
    else:
        yield value
