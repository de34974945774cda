"""What makes two sides other than the same measurement of two models: data, lengths, k, settings, definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from indexscope.analysis.diff.pairs import Pair
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.names import plain
from indexscope.errors import one_line

#: Settings that change no number, or none beyond rounding.
_INCIDENTAL = {"chunk", "batch", "device", "profile_lengths", "profile_repeats"}
#: Differences of a kind that are told; the others are counted.
_TOLD = 4
Report = Mapping[str, Any]


def premises(report_a: Report, report_b: Report, pairs: Sequence[Pair], timed: bool) -> list[str]:
    """What a reader must know before any difference is read, a sentence each, the gravest first.

    Args:
        report_a: One report.
        report_b: The other; the same one where models of one study are compared.
        pairs: The models that are compared.
        timed: Whether timings are among what is compared.
    """
    alone = report_a is report_b
    cautions = [*_cautions(report_a, pairs, 0, "" if alone else "A: ")]
    cautions += _cautions(report_b, pairs, 1, "" if alone else "B: ")
    void = [text for text, audit in cautions if audit]
    told = [*_data(report_a, report_b), *_topk(pairs), *_settings(report_a, report_b)]
    told += [*_definitions(report_a, report_b), *(_machines(report_a, report_b) if timed else ())]
    weak = [text for text, audit in cautions if not audit]
    return list(dict.fromkeys([*void, *(_topk(pairs) if alone else told), *weak]))


def same_data(report_a: Report, report_b: Report) -> bool | None:
    """Whether both sides were measured on the same token ids; None where one does not say on which."""
    one, two = (_part(report, "dataset").get("fingerprint") for report in (report_a, report_b))
    return one == two if one and two else None


def _cautions(report: Report, pairs: Sequence[Pair], place: int, side: str) -> Iterator[tuple[str, bool]]:
    """What the report itself warns of about its models, and whether an audit failed, which makes a difference void."""
    names = {model["name"] for pair in pairs if (model := pair[place]) is not None}
    for row in report.get("warnings", ()):
        if row.get("model") in names or not row.get("model") or row.get("kind") == "missing":
            yield f"{side}{one_line(row['text'])}", row.get("kind") == "audit"


def _data(report_a: Report, report_b: Report) -> Iterator[str]:
    same = same_data(report_a, report_b)
    if same is None:
        yield "it is not known whether the two sides saw the same data; a difference may be one of data"
    if same is False:
        one, two = (_described(report) for report in (report_a, report_b))
        yield f"the two sides saw different data, so a difference may be one of data: A {one}, B {two}"
    lengths = [_part(report, "settings", "dataset").get("max_length") for report in (report_a, report_b)]
    if None not in lengths and lengths[0] != lengths[1]:
        yield f"dataset.max_length is {lengths[0]} in A and {lengths[1]} in B: recall and entropy change with length"


def _described(report: Report) -> str:
    data = _part(report, "dataset")
    size = ", ".join(
        f"{data[name]:,.0f} {words}"
        for name, words in (("samples", "samples"), ("tokens", "tokens"), ("mean_length", "a sample on average"))
        if isinstance(data.get(name), int | float)
    )
    return f"{plain(data.get('source', 'unknown data'))} ({size or 'of unknown size'})"


def _topk(pairs: Sequence[Pair]) -> Iterator[str]:
    for a, b in pairs:
        one, two = (_k(model) for model in (a, b))
        if a and b and one is not None and two is not None and one != two:
            names = plain(a["name"]) if a["name"] == b["name"] else f"{plain(a['name'])} and {plain(b['name'])}"
            yield f"{names}: k is {one} on the left and {two} on the right, so that they may select different amounts"


def _k(model: Mapping[str, Any] | None) -> object:
    indexer = (model or {}).get("indexer")
    return indexer.get("topk") if isinstance(indexer, Mapping) else None


def _settings(report_a: Report, report_b: Report) -> Iterator[str]:
    told = []
    for part in ("extract", "closeup", "analyses", "comparison"):
        one, two = (dict(_leaves(_part(report, "settings", part), part)) for report in (report_a, report_b))
        # A setting that only one side has is of another version, and stands for what the other does anyway.
        told += [f"{key} {one[key]} / {two[key]}" for key in one if key in two and one[key] != two[key]]
    if told:
        more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        yield f"settings differ (A / B): {', '.join(told[:_TOLD])}{more}"


def _leaves(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}.{key}")
        elif key not in _INCIDENTAL:
            yield f"{prefix}.{key}", plain(value)


def _definitions(report_a: Report, report_b: Report) -> Iterator[str]:
    one, two = ({row["name"]: row for row in report.get("definitions", ())} for report in (report_a, report_b))
    common = [name for name in one if name in two]
    units = [name for name in common if one[name]["unit"] != two[name]["unit"]]
    other = [name for name in common if any(one[name].get(key) != two[name].get(key) for key in ("formula", "better"))]
    if units:
        yield f"of other units in A than in B, so not compared: {', '.join(map(plain, units))}"
    if other := [name for name in other if name not in units]:
        own = " (metrics of the studies' own: their code differs)" if set(other).isdisjoint(REGISTRY.built_in) else ""
        yield f"defined in other words in A than in B: {', '.join(map(plain, other))}{own}"


def _machines(report_a: Report, report_b: Report) -> Iterator[str]:
    one, two = (_part(report, "machine") for report in (report_a, report_b))
    if one and two and one != two:
        yield "timings were taken on different machines"


def _part(report: Report, *path: str) -> Mapping[str, Any]:
    found: Any = report.get("provenance")
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
