"""What the notebook classes return: dataclasses that behave as mappings, print readably and turn into polars frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from textwrap import wrap
from typing import Any

import numpy as np
import polars as pl

#: Values of an array that are printed.
SHOWN = 8
#: Characters of a printed line, about.
LINE = 100


@dataclass(frozen=True, eq=False, repr=False)
class Result(Mapping[str, Any]):
    """Named values: ``result.entropy`` is ``result["entropy"]``; ``dict(result)`` holds them all.

    Subclasses are dataclasses; their fields are the stable names. Numbers, arrays, frames and other results may be
    fields.
    """

    def __getitem__(self, name: str) -> Any:
        """A field by its name.

        Raises:
            KeyError: There is no such field; the message lists those that there are.
        """
        if name not in self._names():
            raise KeyError(f"{name!r}; there are {', '.join(self._names())}")
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        """Names of the fields, in order."""
        return iter(self._names())

    def __len__(self) -> int:
        """How many fields there are."""
        return len(self._names())

    def __repr__(self) -> str:
        """A line a field: numbers as they are, of tables and nested results what they hold."""
        width = max(map(len, self._names()), default=0)
        lines = [f"{type(self).__name__}"]
        for name in self:
            first, *rest = wrap(_told(self[name]), LINE - width) or [""]
            lines += [f"  {name:<{width}}  {first}", *(f"  {'':<{width}}  {line}" for line in rest)]
        return "\n".join(lines)

    def to_frame(self) -> pl.DataFrame:
        """The numbers as rows: name, value; nested results by "outer.inner". Tables and arrays are in `frames`."""
        rows = dict(_scalars(self))
        return pl.DataFrame({"name": list(rows), "value": list(rows.values())}, schema=_SCALARS)

    def frames(self) -> dict[str, pl.DataFrame]:
        """Every table among the fields by name, nested ones by "outer.inner"; numbers under "values"."""
        found = {"values": self.to_frame()}
        for name in self:
            value = self[name]
            if isinstance(value, pl.DataFrame):
                found[name] = value
            elif isinstance(value, Result):
                found |= {f"{name}.{inner}": frame for inner, frame in value.frames().items() if inner != "values"}
        return found

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls) if not field.name.startswith("_"))


_SCALARS = {"name": pl.String, "value": pl.Float64}


def _scalars(result: Result, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name in result:
        value = result[name]
        if isinstance(value, Result):
            yield from _scalars(value, f"{prefix}{name}.")
        elif isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def _told(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, pl.DataFrame):
        return f"{value.height:,} rows: {', '.join(value.columns)}"
    if isinstance(value, np.ndarray):
        return f"array {list(value.shape)}" if value.size > SHOWN else np.array2string(value, precision=4)
    if isinstance(value, Result):
        return f"{type(value).__name__}: {', '.join(value)}"
    return str(value)
