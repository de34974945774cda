"""The numbers of a series by step, and the steps at which they change; from stored results, so that no model is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null, with_derived
from indexscope.analysis.metrics.sums import Cell, from_per_sample
from indexscope.analysis.series.course import Course
from indexscope.analysis.series.followed import followed, needed
from indexscope.analysis.series.tables import CHANGES, COMPARED, COURSES, PATTERNS, POINTS, ROLES, SETTLED
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import FEWEST_FOR_PERCENTILES, Array, bootstrap_ratios, interval
from indexscope.analysis.statistics.segmentation import FEWEST, change_points, noise_variance, places_in_resamples
from indexscope.columns import Table, empty

Frames = Mapping[str, pl.DataFrame]
#: Raise it when the same results would give other rows.
VERSION = 1
#: Resamples at most: they are held for every member at once.
RESAMPLES = 500
#: Members, and share of them, that follow the last change of a metric that has settled.
FOLLOWING, FOLLOWING_SHARE = 3, 0.2
_ENDS = ("ci_low", "ci_high")


def run(
    courses: Sequence[Course], models: Mapping[str, Frames], settings: BootstrapSettings
) -> dict[str, pl.DataFrame]:
    """Follow every series.

    Args:
        courses: The series.
        models: Name of a member to its frames ``metrics`` and ``per_sample`` (see
            `indexscope.analysis.comparison.compare.combine`), ``pattern_types`` and ``focus``, where it has
            them. A mapping that reads a model when it is asked for holds one at a time.
        settings: The bootstrap over samples; at most `RESAMPLES` are made.

    Returns:
        The tables of `indexscope.analysis.series.tables`; series_points is of all layers together, series_layers of
        each, which are many rows. A change is a place at which the level of a metric changes
        (`indexscope.analysis.statistics.segmentation`): its interval is of the places that resampled samples give. Of a
        metric without values by sample members are drawn from their own intervals, as if they were independent: too
        wide rather than too narrow. Timings and counts have no changes.
    """
    parts: dict[str, list[pl.DataFrame]] = {name: [frame] for name, frame in empty(COMPARED).items()}
    for course in courses:
        for name, frame in _of(course, models, settings).items():
            parts[name].append(frame)
    return {name: pl.concat(frames) for name, frames in parts.items()}


def _of(course: Course, models: Mapping[str, Frames], settings: BootstrapSettings) -> dict[str, pl.DataFrame]:
    members, patterns, roles = [], [PATTERNS.empty()], [ROLES.empty()]
    for member in course.members:
        frames = models[member.name]
        members.append(_member(frames, settings))
        placed = _placed(course).with_columns(step=pl.lit(member.at))
        for name, table, into in (("pattern_types", PATTERNS, patterns), ("focus", ROLES, roles)):
            frame = frames.get(name)
            if frame is not None and not frame.is_empty():
                into.append(table.shaped(frame.join(placed, how="cross")))
    series = _aligned(members)
    steps = np.array([member.at for member in course.members])
    points = _points(course, series, settings)
    changes, settled = _changes(course, series, steps, settings)
    return {
        "series": _course(course),
        "series_points": points.filter(pl.col("layer").is_null()),
        "series_layers": points.filter(pl.col("layer").is_not_null()),
        "series_changes": changes,
        "series_settled": settled,
        "series_patterns": pl.concat(patterns),
        "series_roles": pl.concat(roles),
    }


def _placed(course: Course) -> pl.DataFrame:
    return pl.DataFrame({"candidate": [course.newest.name], "series": [course.name]})


def _course(course: Course) -> pl.DataFrame:
    return COURSES.shaped(
        _placed(course).with_columns(
            axis=pl.lit(course.axis),
            members=pl.lit(len(course.members)),
            first=pl.lit(course.members[0].at),
            newest=pl.lit(course.newest.at),
        )
    )


@dataclass(frozen=True)
class _Member:
    """A member's rows of the followed metrics, and their resamples, [resamples, cells]."""

    rows: pl.DataFrame
    cells: tuple[Cell, ...]
    replicates: Array


def _member(frames: Frames, settings: BootstrapSettings) -> _Member:
    rows = frames["metrics"].filter(pl.col("metric").is_in(followed()))
    sums = from_per_sample(frames["per_sample"]).of(needed())
    resamples = min(settings.resamples, RESAMPLES)
    nothing = np.zeros(len(sums.cells)), np.zeros(len(sums.cells), np.int64)
    # The seed and the number of samples are those of every member, and so are the samples drawn: values are paired.
    drawn = bootstrap_ratios(sums.numerator, sums.denominator, resamples, settings.seed)
    cells, _, replicates, _ = with_derived(sums.cells, nothing[0], drawn, nothing[1])
    kept = [place for place, (metric, _) in enumerate(cells) if metric in followed()]
    return _Member(rows, tuple(cells[place] for place in kept), replicates[:, kept])


@dataclass(frozen=True)
class _Series:
    """The members side by side.

    Attributes:
        cells: (metric, layer) of each column.
        values: [members, cells], NaN where a member has none; as are low and high, the ends of the intervals.
        low: Lower ends.
        high: Upper ends.
        n: Samples, [members, cells].
        replicates: [resamples, members, cells].
    """

    cells: tuple[Cell, ...]
    values: Array
    low: Array
    high: Array
    n: NDArray[np.int64]
    replicates: Array


def _aligned(members: Sequence[_Member]) -> _Series:
    order = {name: place for place, name in enumerate(followed())}
    listed = {cell for member in members for cell in member.rows.select("metric", "layer").iter_rows()}
    cells: tuple[Cell, ...] = tuple(
        sorted(listed, key=lambda cell: (order[cell[0]], cell[1] is not None, cell[1] or 0))
    )
    column = {cell: place for place, cell in enumerate(cells)}
    values, low, high = np.full((3, len(members), len(cells)), np.nan)
    n = np.zeros((len(members), len(cells)), np.int64)
    replicates = np.full((len(members[0].replicates), len(members), len(cells)), np.nan)
    for place, member in enumerate(members):
        for metric, layer, value, *ends, count in member.rows.select(
            "metric", "layer", "value", *_ENDS, "n"
        ).iter_rows():
            at = place, column[metric, layer]
            values[at], low[at], high[at] = (np.nan if number is None else number for number in (value, *ends))
            n[at] = count or 0
        own = [number for number, cell in enumerate(member.cells) if cell in column]
        replicates[:, place, [column[member.cells[number]] for number in own]] = member.replicates[:, own]
    return _Series(cells, values, low, high, n, replicates)


def _points(course: Course, series: _Series, settings: BootstrapSettings) -> pl.DataFrame:
    parts = [POINTS.empty()]
    newest = -1
    for place, member in enumerate(course.members):
        since, low, high = _since(series, place, newest, settings)
        metrics, layers = [metric for metric, _ in series.cells], [layer for _, layer in series.cells]
        frame = pl.DataFrame(
            {
                "metric": metrics,
                "layer": layers,
                "value": series.values[place],
                "unit": [REGISTRY[metric].unit for metric in metrics],
                "ci_low": series.low[place],
                "ci_high": series.high[place],
                "n": series.n[place],
                "since": since,
                "since_low": low,
                "since_high": high,
            },
            schema_overrides={"layer": pl.Int16},
        ).with_columns(finite_or_null("value", *_ENDS, "since", "since_low", "since_high"))
        named = _placed(course).with_columns(step=pl.lit(member.at), member=pl.lit(member.name))
        parts.append(POINTS.shaped(frame.filter(pl.col("value").is_not_null()).join(named, how="cross")))
    return pl.concat(parts)


def _since(series: _Series, place: int, newest: int, settings: BootstrapSettings) -> tuple[Array, Array, Array]:
    """The newest member less another, with its interval."""
    difference = series.values[newest] - series.values[place]
    drawn = series.replicates[:, newest] - series.replicates[:, place]
    n = np.where(np.isnan(drawn).all(axis=0), 0, np.minimum(series.n[newest], series.n[place]))
    low, high = interval(difference, drawn, n, settings.confidence)
    # Where there are no values by sample: as if the two were independent.
    below = np.hypot(series.values[newest] - series.low[newest], series.high[place] - series.values[place])
    above = np.hypot(series.high[newest] - series.values[newest], series.values[place] - series.low[place])
    return (
        difference,
        np.where(np.isnan(low), difference - below, low),
        np.where(np.isnan(high), difference + above, high),
    )


def _changes(
    course: Course, series: _Series, steps: Array, settings: BootstrapSettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    found: list[tuple[object, ...]] = []
    settled: list[tuple[object, ...]] = []
    for column, (metric, layer) in enumerate(series.cells):
        if REGISTRY[metric].kind != "sample":
            continue
        known = ~np.isnan(series.values[:, column])
        values, own = series.values[known, column], steps[known]
        unit = REGISTRY[metric].unit
        # Resamples of a handful of samples know too little of the noise.
        if len(values) < FEWEST or series.n[known, column].min() < FEWEST_FOR_PERCENTILES:
            settled.append((metric, layer, None, None, None, unit))
            continue
        drawn = _drawn(series, column, known, settings)
        places = change_points(values, noise_variance(values, drawn))
        found += [(metric, layer, *row, unit) for row in _rows(metric, values, own, drawn, places, settings)]
        last = places[-1] if places else len(values)
        stays = len(values) - last >= max(FOLLOWING, FOLLOWING_SHARE * len(values))
        level = float(values[last if places else 0 :].mean()) if stays or not places else None
        settled.append((metric, layer, len(places), float(own[last]) if stays else None, level, unit))
    return (
        _table(
            course, CHANGES, found, ("step", "before", *_ENDS, "level_before", "level", "difference", "better", "unit")
        ),
        _table(course, SETTLED, settled, ("changes", "settled", "level", "unit")),
    )


def _drawn(series: _Series, column: int, known: NDArray[np.bool_], settings: BootstrapSettings) -> Array:
    """The series in every resample of the samples, [resamples, members]."""
    drawn = series.replicates[:, known, column]
    kept = drawn[~np.isnan(drawn).any(axis=1)]
    if len(kept):
        return kept
    from scipy.special import ndtri

    half = (series.high - series.low)[known, column] / 2
    error = np.nan_to_num(half / float(ndtri(0.5 + settings.confidence / 2)))
    random = np.random.default_rng(settings.seed)
    values = series.values[known, column]
    return np.asarray(values + error * random.standard_normal((len(series.replicates), len(values))))


def _rows(
    metric: str, values: Array, steps: Array, drawn: Array, places: Sequence[int], settings: BootstrapSettings
) -> Iterator[tuple[object, ...]]:
    """The changes of one metric: step, the one before, interval, levels, difference, and whether it is better."""
    if not places:
        return
    moved = places_in_resamples(drawn, len(places))
    tail = (1 - settings.confidence) / 2
    lowest = np.minimum(np.quantile(moved, tail, axis=0, method="lower"), places)
    highest = np.maximum(np.quantile(moved, 1 - tail, axis=0, method="higher"), places)
    means = [float(part.mean()) for part in np.split(values, places)]
    sign = {"higher": 1, "lower": -1, "neither": 0}[REGISTRY[metric].better]
    for number, place in enumerate(places):
        before, level = means[number], means[number + 1]
        ends = float(steps[lowest[number] - 1]), float(steps[highest[number]])
        better = (level > before) == (sign > 0) if sign else None
        yield float(steps[place]), float(steps[place - 1]), *ends, before, level, level - before, better


def _table(course: Course, table: Table, rows: Sequence[tuple[object, ...]], columns: Sequence[str]) -> pl.DataFrame:
    schema = {name: table.schema[name] for name in ("metric", "layer", *columns)}
    frame = pl.DataFrame(list(rows), schema=schema, orient="row")
    return table.shaped(frame.join(_placed(course), how="cross"))
