"""How long a study's sequences are: long enough for its indexers to leave keys out, where models and data allow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from indexscope import IndexscopeError
from indexscope.analysis.report.effect import (
    LITTLE,
    TIMES,
    hardly_in_effect,
    length_for,
    remedy,
    selects_everything,
    share_in_effect,
)
from indexscope.analysis.rope import lengths_apart, reach, scalings
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import CheckpointInfo
from indexscope.storage.inputs.dataset_settings import NEEDLE, DatasetSettings
from indexscope.storage.inputs.samples import Sample

#: Longest of the lengths that are timed without being asked for: a forward at once takes the square in memory.
LONGEST_TIMED = 2048
#: Samples that length does not cost a study: with fewer, no interval would say much.
ENOUGH = 16
Load = Callable[[DatasetSettings], list[Sample]]


class Cut(NamedTuple):
    """A dataset cut into samples.

    Attributes:
        settings: With the length in numbers.
        samples: The samples.
        notes: What was decided, for the user.
    """

    settings: DatasetSettings
    samples: list[Sample]
    notes: tuple[str, ...] = ()


def cut(settings: DatasetSettings, models: Mapping[str, CheckpointInfo], load: Load) -> Cut:
    """Read a dataset in sequences of the length that it asks for, or that the models do.

    Args:
        settings: The dataset; a ``max_length`` of "auto" is decided here.
        models: The study's models by name.
        load: Reads the dataset.
    """
    if settings.max_length != "auto":
        return Cut(settings, load(settings))
    if settings.source == NEEDLE:
        exact = settings.model_copy(update={"max_length": settings.length})
        return Cut(exact, load(exact))
    selecting = {name: info.selects_all_of for name, info in models.items() if info.selects_all_of is not None}
    most = max(selecting, key=lambda name: selecting[name], default=None)
    wanted = settings.length if most is None else max(settings.length, length_for(selecting[most]))
    known = [positions for info in models.values() if (positions := positions_of(info)) is not None]
    positions = min(known, default=wanted)
    longest = settings.model_copy(update={"max_length": min(wanted, positions)})
    samples = load(longest)
    chosen, found = longest, samples
    while len(found) < min(settings.samples or ENOUGH, ENOUGH) and chosen.length > settings.length:
        chosen = chosen.model_copy(update={"max_length": max(settings.length, chosen.length // 2)})
        found = load(chosen)
    if len(found) <= len(samples):
        chosen, found = longest, samples  # documents that are not joined: shorter sequences are no more
    length = chosen.length
    if most is None or wanted == settings.length:
        return Cut(chosen, found)
    note = f"dataset.max_length: {length:,} tokens, "
    if length == wanted:
        note += f"{TIMES} times the {selecting[most]:,} that {most} selects"
    elif length == positions:
        note += f"all the positions that the models have ({most} selects {selecting[most]:,})"
    else:
        note += (
            f"since at {longest.length:,} ({TIMES} times the {selecting[most]:,} that {most} selects) the data make "
            f"only {len(samples)} samples"
        )
    return Cut(chosen, found, (f"{note}; set it to choose another",))


def answer_warnings(samples: Sequence[Sample], length: int) -> tuple[str, ...]:
    """What is said of answers that the longest length cuts off; such samples count as those without an answer."""
    cut_off = [sample for sample in samples if sample.cut_off]
    if not cut_off:
        return ()
    marked = sum(sample.evidence is not None for sample in samples) + len(cut_off)
    told = f"{len(cut_off)} of {marked} answers end beyond dataset.max_length ({length:,} tokens), first that of"
    return (f"warning: {told} {cut_off[0].name}; nothing is said of them. Set dataset.max_length to more",)


def effect_warnings(models: Mapping[str, CheckpointInfo], samples: Sequence[Sample]) -> tuple[str, ...]:
    """What can be known before any model runs: which indexers are not, or hardly, in effect on these samples."""
    lengths = [len(sample.input_ids) for sample in samples]
    found = []
    for name, info in models.items():
        if info.selects_all_of is None:
            continue
        share = share_in_effect(lengths, info.selects_all_of)
        if share < LITTLE:
            told = selects_everything(name) if share == 0 else hardly_in_effect(name, share)
            found.append(f"warning: {told} {remedy(info.selects_all_of, info.max_positions)}")
    return tuple(found)


def check_asked(lengths: Sequence[int], samples: Sequence[Sample], models: Mapping[str, CheckpointInfo]) -> None:
    """Refuse lengths that no sample has, or that a model's positions do not reach.

    Raises:
        IndexscopeError: It names the length, and the model or the longest sample.
    """
    if not lengths:
        return
    asked = lengths[-1]
    for name, info in models.items():
        positions = positions_of(info)
        if positions is not None and asked > positions:
            reason = f"are up to {asked:,} tokens, and {name} was made for {positions:,}"
            raise IndexscopeError("lengths", reason, f"leave out those above {positions:,}")
    longest = max(len(sample.input_ids) for sample in samples)
    if longest < asked:
        reason = f"are up to {asked:,} tokens, and the longest sample has {longest:,}"
        raise IndexscopeError("lengths", reason, "give longer texts, or end with a length that a sample has")


def lengths_notes(
    lengths: Sequence[int], samples: Sequence[Sample], models: Mapping[str, CheckpointInfo], every: int
) -> tuple[str, ...]:
    """How many samples each length is of, and which lengths are runs of their own, and why."""
    if not lengths:
        return ()
    counts = [sum(len(sample.input_ids) >= length for sample in samples) for length in lengths]
    listed = ", ".join(f"{length:,} ({count})" for length, count in zip(lengths, counts, strict=True))
    notes = [f"lengths (samples that have so many tokens): {listed}"]
    for name, info in models.items():
        own, why = alone(info, lengths[:-1], lengths[-1], every)
        if own:
            notes.append(f"{name}: {_listed(own)} tokens are runs of their own: {why}")
    return tuple(notes)


def alone(info: CheckpointInfo, lengths: Sequence[int], longest: int, every: int) -> tuple[Sequence[int], str]:
    """The lengths that a pass over the longest samples does not hold, and why."""
    if info.own_code:
        return lengths, "nobody knows what the positions of code of your own depend on"
    found = scalings(info.rope, info.max_positions)
    if scaled := lengths_apart(found, lengths, longest):
        kinds = ", ".join(sorted({scaling.kind for scaling in found}))
        return scaled, f"its positions are scaled by the whole length ({kinds})"
    if every > 1:
        from indexscope.analysis.features.sampling import sampled_apart

        return sampled_apart(lengths, longest, every), f"extract.query_every {every} measures other queries of so few"
    return (), ""


def positions_of(info: CheckpointInfo) -> int | None:
    """Tokens up to which a model's positions go; None where nothing limits them."""
    return reach(info.rope, info.max_positions)


def timed_lengths(lengths: Sequence[int], settings: ExtractSettings) -> ExtractSettings:
    """The settings with the lengths that are timed: those that are asked for, as far as a forward at once is small."""
    short = tuple(length for length in lengths if length <= LONGEST_TIMED)
    if settings.profile_lengths is not None or not short:
        return settings
    return settings.model_copy(update={"profile_lengths": short})


def _listed(lengths: Sequence[int]) -> str:
    *others, last = (f"{length:,}" for length in lengths)
    return f"{', '.join(others)} and {last}" if others else last
