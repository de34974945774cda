"""What a stored table is described by: its columns with meaning and unit, and what tells its rows apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a stored table.

    Attributes:
        name: The column.
        description: What it holds, as one sentence.
        unit: Its unit, "share" for numbers from 0 to 1; "" for words, flags and indices.
        weight: Column that counts what the value is the mean of; "" where it is no mean.
    """

    name: str
    description: str
    unit: str = ""
    weight: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """The column's entries in a Parquet file, under the names that readers see; what is empty is left out."""
        entries = {"description": self.description, "unit": self.unit, "weight": self.weight}
        return {name: text for name, text in entries.items() if text}


@dataclass(frozen=True)
class Table:
    """One stored table.

    Attributes:
        row: What one row is.
        key: Columns that tell rows apart; none where there is one row.
        ordered: Whether rows are sorted by the key; else they come in the order of the documentation.
        columns: All columns that it can have.
    """

    row: str
    key: tuple[str, ...]
    ordered: bool
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column | None:
        """The column of that name, if it is described."""
        return next((column for column in self.columns if column.name == name), None)


def of(unit: str = "", weight: str = "", /, **descriptions: str) -> tuple[Column, ...]:
    """Columns of one unit and weight, by name with their descriptions."""
    return tuple(Column(name, text, unit, weight) for name, text in descriptions.items())


def table(row: str, key: str, *groups: Iterable[Column], ordered: bool = True) -> Table:
    """A table of groups of columns; the key's columns may be among them, else they are the common places."""
    listed = {column.name: column for group in groups for column in group}
    places = tuple(PLACES[name] for name in key.split() if name not in listed)
    return Table(row, tuple(key.split()), ordered, (*places, *listed.values()))


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
    return of(unit, **{name: f"{end} end of {whose} confidence interval{more}." for name, end in ends.items()})


#: How many samples a row rests on, and so its interval.
SAMPLES = of("samples", n="Samples that the row is of.")
#: Where a row belongs: these mean the same in every table.
PLACES = {
    column.name: column
    for column in of(
        sample="Index of the sample in the dataset, from 0.",
        layer="Index of the layer, from 0; null for the whole model.",
        head="Index of the attention head, from 0.",
        bucket="Position bucket: b holds the queries at 0-based positions t with floor(log2(t + 1)) = b.",
        axis="What the bins divide: distance or relative position.",
        bin="Index of the bin on its axis, from 0.",
        query="0-based position of the query.",
        metric="Name of the metric; docs/metrics.md defines it.",
        component="Part of the model.",
        cluster="Index of the cluster, from 0.",
        candidate="The candidate's name in the study.",
    )
}
