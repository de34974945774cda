"""What a metric is: a name with a unit, a direction, a definition, and the rule that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.metrics.bounds import bounds

Array = NDArray[np.float64]
#: Feature tables that are there of the first tokens of samples too, and analyses that are made of those.
_PREFIXED, _PREFIXED_BY = frozenset({"tokens", "indexer", "attention"}), frozenset({"distribution", "positional_bias"})
Better = Literal["higher", "lower", "neither"]
Kind = Literal["sample", "count", "timing"]
#: Tables whose metrics are not sampled: counted of a checkpoint, or timed on a machine.
KINDS: Mapping[str, Kind] = {"facts": "count", "profile": "timing"}
#: Differences that never matter, by unit, where a metric says nothing else: 1 % of nearly nothing is no margin.
LEAST_MARGINS: Mapping[str, float] = {
    **dict.fromkeys(("share", "ratio", "score", "cosine", "correlation", "nats", "bits", "sd"), 0.001),
    **dict.fromkeys(("keys", "tokens"), 0.1),
    "heads": 0.01,
}


@dataclass(frozen=True)
class Ratio:
    """sum((value - minus) x weight) / sum(over x weight) over the rows of a feature table.

    Rows without weight or with a null among the columns count in neither sum.

    Attributes:
        table: Feature table.
        value: Column of row means (or of counts, with weight "").
        weight: Column that counts what the row mean is over; "" for weight 1.
        minus: Column to subtract from the value, or "".
        over: Column for the denominator, or "" for 1.
    """

    table: str
    value: str
    weight: str
    minus: str = ""
    over: str = ""


@dataclass(frozen=True)
class Derived:
    """A function of other metrics, applied to their estimates and not to rows.

    Attributes:
        table: Feature table of its bases, which says among which metrics it is shown.
        bases: Names of the metrics it takes.
        function: Maps arrays of the bases' estimates to an array of the same shape.
    """

    table: str
    bases: tuple[str, ...]
    function: Callable[..., Array]


@dataclass(frozen=True)
class Computed:
    """A quantity that one analysis computes in its own way, as the formula says.

    Attributes:
        analysis: Name of the analysis: positional, efficiency or clustering.
        table: Feature table that it is computed from.
    """

    analysis: str
    table: str


@dataclass(frozen=True)
class Paired:
    """A quantity of a candidate and the baseline together, which neither has alone; the comparison computes it.

    Attributes:
        analysis: Name of the analysis: divergence.
        table: Table that it is computed from, of both models.
        of_dump: Whether the candidate is selections from elsewhere, and not a model that was run.
    """

    analysis: str
    table: str
    of_dump: bool = False


Rule = Ratio | Derived | Computed | Paired


@dataclass(frozen=True)
class Metric:
    """One metric, exactly enough to be quoted.

    Attributes:
        name: Name in every table, report and rule, snake_case.
        unit: nats, share, keys, tokens, ratio, sd, bits, ms, bytes, FLOPs/token, parameters or score.
        better: Which direction is better, where one is.
        meaning: One plain line.
        formula: The definition in the words of the glossary.
        rule: How it is computed from the feature tables.
        per_layer: Whether there is a value for each layer beside the overall one.
        per_length: Whether there is one for each length of samples, which a gate may ask for.
        at_lengths: Whether a study that asks for several lengths has one at each, of the first so many tokens; what is
            a mean of features has, and what is made of it.
        source: Paper or report that it comes from, or "".
        range: Values that it can take, e.g. "0 to ln n_t", "≥ 0"; a share is from 0 to 1 where nothing else is said.
        misleads: One or two sentences on what can make it mislead.
        label: Its name in running text and in figures; the name itself in plain words where nothing else is said.
        headline: Whether it is among the few that a reader asks for first.
        of_attention: Whether it rests on dense attention, and so is unknown where only a selection was seen; what comes
            from the table of the attention does.
        at_equal_k: Whether another k moves it by itself, so that it is judged only where models select the same share
            of the keys.
        repeats: Metrics whose difference is this one's too, always or in some studies: then the two are one test.
        margin_of: Metric whose margin it shares, of which it is a part or differs by a third; "" for its own.
        least_margin: Difference that never matters, in the metric's unit; that of its unit where nothing else is said.
    """

    name: str
    unit: str
    better: Better
    meaning: str
    formula: str
    rule: Rule
    per_layer: bool = True
    source: str = ""
    range: str = ""
    misleads: str = ""
    label: str = ""
    headline: bool = False
    of_attention: bool = False
    at_equal_k: bool = False
    repeats: tuple[str, ...] = ()
    margin_of: str = ""
    least_margin: float | None = None
    per_length: bool = False
    at_lengths: bool = False

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        least = LEAST_MARGINS.get(self.unit, 0.0) if self.least_margin is None else self.least_margin
        implied = {
            "range": self.range or ("0 to 1" if self.unit == "share" else ""),
            "label": self.label or self.name.replace("_", " "),
            "of_attention": self.of_attention or self.table == "attention",
            "least_margin": least,
            "at_lengths": self.at_lengths or self._of_prefixes,
        }
        for name, value in implied.items():
            object.__setattr__(self, name, value)

    @property
    def _of_prefixes(self) -> bool:
        if isinstance(self.rule, Computed):
            return self.rule.analysis in _PREFIXED_BY
        return not isinstance(self.rule, Paired) and self.rule.table in _PREFIXED

    @property
    def table(self) -> str:
        """Feature table that the metric comes from."""
        return self.rule.table

    @property
    def kind(self) -> Kind:
        """Whether it is an estimate from samples, a count or a timing."""
        return KINDS.get(self.table, "sample")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value of the range, as far as the declaration says; infinite where it does not."""
        return bounds(self.range)

    @property
    def column(self) -> str:
        """Column of the feature table, or "" where the metric is not the mean of one."""
        return self.rule.value if isinstance(self.rule, Ratio) else ""

    @property
    def weight(self) -> str:
        """Column that weights the mean, or ""."""
        return self.rule.weight if isinstance(self.rule, Ratio) else ""

    @property
    def paired(self) -> bool:
        """Whether it compares a candidate with the baseline by itself."""
        return isinstance(self.rule, Paired)

    @property
    def of_dump(self) -> bool:
        """Whether it is known of selections from elsewhere; all other metrics are known of models that were run."""
        return isinstance(self.rule, Paired) and self.rule.of_dump

    @property
    def bases(self) -> tuple[str, ...]:
        """Metrics that this one is derived from."""
        return self.rule.bases if isinstance(self.rule, Derived) else ()


@dataclass(frozen=True)
class Family:
    """Metrics that are read together.

    Attributes:
        order: Place in the documentation.
        title: Heading.
        about: What they have in common, a sentence or two.
        metrics: The metrics.
    """

    order: int
    title: str
    about: str
    metrics: tuple[Metric, ...]
