"""How a stored table is declared: its columns with type, unit, weight and meaning, and what tells its rows apart.

A table is declared once, beside the code that computes it; the types of its frame, what its Parquet files say of
themselves and its section of docs/storage.md follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl
from polars._typing import PolarsDataType


@dataclass(frozen=True)
class Column:
    """One column of a stored table.

    Attributes:
        name: The column.
        dtype: Its type.
        meaning: What it holds, as one sentence.
        unit: Its unit, "share" for numbers from 0 to 1; "" for words, flags and indices.
        weight: Column that counts what the value is the mean of; "" where it is no mean.
        label: Its name in running text and in figures; the name itself in plain words where nothing else is said.
        of_attention: Whether it rests on dense attention, and so is unknown where only a selection was seen.
    """

    name: str
    dtype: PolarsDataType
    meaning: str
    unit: str = ""
    weight: str = ""
    label: str = ""
    of_attention: bool = False

    def __post_init__(self) -> None:
        """Have a label in any case."""
        object.__setattr__(self, "label", self.label or self.name.replace("_", " "))

    @property
    def metadata(self) -> dict[str, str]:
        """The column's entries in a Parquet file, under the names that readers see; what is empty is left out."""
        entries = {"description": self.meaning, "unit": self.unit, "weight": self.weight}
        return {name: text for name, text in entries.items() if text}


@dataclass(frozen=True)
class Table:
    """One stored table.

    Attributes:
        row: What one row is.
        key: Columns that tell rows apart; none where there is one row.
        ordered: Whether rows are sorted by the key; else they come in the order of the documentation.
        columns: All columns that it can have, in the order of its frames.
        of_attention: Whether its rows as a whole rest on dense attention.
    """

    row: str
    key: tuple[str, ...]
    ordered: bool
    columns: tuple[Column, ...]
    of_attention: bool = False

    @cached_property
    def schema(self) -> pl.Schema:
        """Types by column."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def floats(self) -> list[str]:
        """The columns of double precision."""
        return [name for name, dtype in self.schema.items() if dtype == pl.Float64]

    @property
    def weights(self) -> dict[str, str]:
        """The columns that are means, with the column that counts what each is the mean of."""
        return {column.name: column.weight for column in self.columns if column.weight}

    def column(self, name: str) -> Column | None:
        """The column of that name, if it is declared."""
        return next((column for column in self.columns if column.name == name), None)

    def empty(self) -> pl.DataFrame:
        """A frame without rows."""
        return pl.DataFrame(schema=self.schema)

    def shaped(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The table's columns of a frame, in their order and types."""
        # Column by column: a query plan takes a frame of few rows ten times as long.
        return pl.DataFrame([frame.get_column(name).cast(dtype) for name, dtype in self.schema.items()])


Tables = Mapping[str, Table]


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """What columns are called."""
    return tuple(column.name for column in columns)


def empty(tables: Tables) -> dict[str, pl.DataFrame]:
    """A frame without rows for each of the tables."""
    return {name: table.empty() for name, table in tables.items()}


def of(dtype: PolarsDataType, unit: str = "", weight: str = "", /, **meanings: str) -> tuple[Column, ...]:
    """Columns of one type, unit and weight, by name with their meanings."""
    return tuple(Column(name, dtype, text, unit, weight) for name, text in meanings.items())


def of_attention(*groups: Iterable[Column]) -> tuple[Column, ...]:
    """The columns as such that rest on dense attention."""
    return tuple(replace(column, of_attention=True) for group in groups for column in group)


def places(*names: str, dtype: PolarsDataType | None = None) -> tuple[Column, ...]:
    """Columns that say where a row belongs, of their usual type or another one."""
    found = (_PLACES[name] for name in names)
    return tuple(found if dtype is None else (replace(column, dtype=dtype) for column in found))


def table_of(row: str, key: str, *groups: Iterable[Column], ordered: bool = True, of_attention: bool = False) -> Table:
    """A table of groups of columns; those of the key that are in no group are places, and come first."""
    listed = [column for group in groups for column in group]
    first = places(*(name for name in key.split() if name not in names(listed)))
    return Table(row, tuple(key.split()), ordered, (*first, *listed), of_attention)


def interval(
    unit: str = "as the value", low: str = "ci_low", high: str = "ci_high", whose: str = "its", more: str = ""
) -> tuple[Column, ...]:
    """The two ends of a confidence interval.

    Args:
        unit: Unit of the value.
        low: Name of the lower end's column.
        high: Name of the upper end's column.
        whose: What the interval is of, in the possessive.
        more: What else is to be said of it.
    """
    ends = {low: "Lower", high: "Upper"}
    return of(
        pl.Float64, unit, **{name: f"{end} end of {whose} confidence interval{more}." for name, end in ends.items()}
    )


def band(unit: str, prefix: str = "") -> tuple[Column, ...]:
    """The interval of a value whose ends are called by its prefix, `ci_low` and `ci_high`."""
    return interval(unit, f"{prefix}ci_low", f"{prefix}ci_high", "the")


#: How many samples a row rests on, and so its interval.
SAMPLES = of(pl.Int32, "samples", n="Samples that the row is of.")
#: Where a row belongs: these mean the same in every table.
_PLACES = {
    column.name: column
    for column in (
        *of(pl.Int32, sample="Index of the sample in the dataset, from 0."),
        *of(pl.Int16, layer="Index of the layer, from 0; null for the whole model."),
        *of(pl.Int16, head="Index of the attention head, from 0."),
        *of(pl.Int8, bucket="Position bucket: b holds the queries at 0-based positions t with floor(log2(t + 1)) = b."),
        *of(pl.String, axis="What the bins divide: distance or relative position."),
        *of(pl.Int32, bin="Index of the bin on its axis, from 0.", query="0-based position of the query."),
        *of(pl.String, metric="Name of the metric; docs/metrics.md defines it.", component="Part of the model."),
        *of(pl.Int16, cluster="Index of the cluster, from 0."),
        *of(pl.String, candidate="The candidate's name in the study."),
    )
}
