"""What a fit would do: inputs found and read, and what an earlier run of it left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.flows.fitting.config import Fit
from indexscope.flows.optimise.split import FEWEST
from indexscope.foreign import parse_json, read_file
from indexscope.storage.inputs.checkpoints import CheckpointInfo, describe, find_tokenizer, fingerprint, resolve
from indexscope.storage.inputs.dataset_settings import DatasetSettings
from indexscope.storage.inputs.datasets import Part, load_samples
from indexscope.storage.inputs.samples import Sample, dataset_fingerprint
from indexscope.storage.store.files import open_store
from indexscope.storage.store.json_types import JSON, canonical_json, pretty_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What says whose results a folder holds.
RECORD = "fit.json"
#: Raise it when the same settings and data would give other weights.
FIT_VERSION = 2
#: Settings that change no weight and no number.
BESIDE = ("out", "model", "dataset", "share", "optimise")
BESIDE_IN_TRAINING = ("checkpoint_every", "device")


@dataclass(frozen=True)
class FitPlan:
    """A fit with its inputs.

    Attributes:
        fit: What was asked for.
        folder: Of the model.
        info: What the model says of itself.
        fingerprint: Of the model.
        training: Sequences to fit to.
        held_out: Sequences to measure on.
        calibration: Sequences of training text that searches see; none where nothing is searched.
        warnings: What is lost of texts with answers, for the user.
    """

    fit: Fit
    folder: Path
    info: CheckpointInfo
    fingerprint: str
    training: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    calibration: tuple[Sample, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        """Where results go."""
        return Path(self.fit.out)

    @property
    def record(self) -> dict[str, Any]:
        """Everything that decides the results."""
        settings = self.fit.model_dump(mode="json")
        for inside, names in ((settings, BESIDE), (settings["training"], BESIDE_IN_TRAINING)):
            for name in names:
                del inside[name]
        if settings["training"]["keep_every"] is None:
            del settings["training"]["keep_every"]  # fits that keep nothing are those of before there was the setting
        return {
            "version": FIT_VERSION,
            "settings": settings,
            "model": self.fingerprint,
            "training_data": dataset_fingerprint(self.training),
            "held_out_data": dataset_fingerprint(self.held_out),
        }

    @property
    def key(self) -> str:
        """Hash of the record."""
        return hashlib.sha256(canonical_json(self.record).encode()).hexdigest()

    def is_finished(self) -> bool:
        """Whether the folder holds the results of this very fit.

        Raises:
            IndexscopeError: It holds those of another, or something else.
        """
        found = recorded(self.out)
        if found is None:
            if self.out.is_dir() and any(not path.name.startswith(".") for path in self.out.iterdir()):
                raise IndexscopeError(f"out: {self.out}", "holds other files", "choose an empty folder")
            return False
        if found.get("key") != self.key:
            other = ", ".join(_differences(found.get("record", {}), self.record)) or "the version"
            reason = f"holds a fit of other settings or data ({other})"
            raise IndexscopeError(f"out: {self.out}", reason, "choose another folder, or remove this one")
        return bool(found.get("finished"))

    def begin(self, finished: bool = False) -> None:
        """Say in the folder whose results it holds."""
        record: dict[str, JSON] = {"key": self.key, "record": self.record, "finished": finished}
        open_store(self.out).write(RECORD, pretty_json(record))


def recorded(out: Path) -> dict[str, Any] | None:
    """What a folder says whose results it holds; None where it does not."""
    file = out / RECORD
    if not file.is_file():
        return None
    remedy = "choose another folder, or remove this one"
    content = parse_json(read_file(file, remedy), file, remedy)
    if not isinstance(content, dict):
        raise IndexscopeError(file, "is no record of a fit", remedy)
    return content


def make_plan(fit: Fit) -> FitPlan:
    """Find the model and read the data.

    Raises:
        IndexscopeError: The model or the data cannot be used.
    """
    folder = resolve(fit.model)
    info = describe(folder)
    if info.max_positions is not None and fit.length > info.max_positions:
        reason = f"is {fit.length}, but the model's positions end at {info.max_positions}"
        raise IndexscopeError("dataset.max_length", reason, f"set it to {info.max_positions} or less")
    if info.layers and fit.share[-1] > info.layers:
        raise IndexscopeError("share", f"is {fit.share[-1]}, but the model has {info.layers} layers", "lower it")
    tokenizer = find_tokenizer(folder)
    vocabulary = info.vocab_size or len(tokenizer or ()) or 2**31
    held_out = fit.dataset.model_copy(update={"samples": fit.held_out.samples})
    if fit.held_out.source:
        held_out = held_out.model_copy(update={"source": fit.held_out.source})
    apart = not fit.held_out.source
    warnings = list[str]()
    seen = _sequences(_with_more(fit), tokenizer, vocabulary, "train" if apart else "all", "dataset", warnings)
    part: Part = "held_out" if apart else "all"
    measured = _sequences(held_out, tokenizer, vocabulary, part, "held_out", warnings)
    if not apart:
        _refuse_seen(fit, seen, measured)
    trained, calibration = _parted(fit, seen)
    if fit.optimise is not None and min(len(calibration), len(measured)) < FEWEST // 2:
        reason = f"calibrates on {len(calibration)} sequences and tests on {len(measured)}"
        raise IndexscopeError("optimise", reason, f"give data and held_out.samples for {FEWEST // 2} of each at least")
    return FitPlan(fit, folder, info, fingerprint(folder), trained, measured, calibration, tuple(warnings))


def _with_more(fit: Fit) -> DatasetSettings:
    """The training data, with the sequences on which a search is calibrated behind those that are trained on."""
    if fit.optimise is None or fit.dataset.samples is None:
        return fit.dataset
    return fit.dataset.model_copy(update={"samples": fit.dataset.samples + fit.optimise.samples})


def _parted(fit: Fit, seen: tuple[Sample, ...]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """What is trained on, as without a search, and what calibrates: the last, not trained on where there is enough."""
    trained = tuple(sample for sample in seen if fit.dataset.samples is None or sample.index < fit.dataset.samples)
    if fit.optimise is None:
        return trained, ()
    return trained, (seen[len(trained) :] or seen)[-fit.optimise.samples :]


def _refuse_seen(fit: Fit, seen: tuple[Sample, ...], measured: tuple[Sample, ...]) -> None:
    known = {sample.input_ids for sample in seen}
    both = sum(sample.input_ids in known for sample in measured)
    if both:
        reason = f"holds {both} sequences of what is trained on, among {len(measured)}"
        raise IndexscopeError(f"held_out: {fit.held_out.source}", reason, "give other text")


def _sequences(
    settings: DatasetSettings,
    tokenizer: PreTrainedTokenizerBase | None,
    vocabulary: int,
    part: Part,
    key: str,
    warnings: list[str],
) -> tuple[Sample, ...]:
    """The sequences of full length; what is lost of texts with answers is added to the warnings."""
    try:
        samples = load_samples(settings, tokenizer, vocabulary, part)
    except IndexscopeError as error:
        if "has no sequence" not in error.reason or part == "all":
            raise
        samples = []
    whole = tuple(sample for sample in samples if len(sample.input_ids) == settings.length)
    if whole:
        warnings += _lost(samples, settings.length, key)
        return whole
    kind = "held-out documents have" if part == "held_out" else "documents have"
    remedy = "give more data or a smaller dataset.max_length"
    if part != "all":
        remedy += ", or held_out.source" if part == "held_out" else ""
    raise IndexscopeError(f"{key}: {settings.source}", f"its {kind} no sequence of {settings.length} tokens", remedy)


def _lost(samples: Sequence[Sample], length: int, key: str) -> Iterator[str]:
    """What a fit does not see of texts with answers, which are never joined: those cut short, and those too short."""
    marked = [sample for sample in samples if sample.cut_off or sample.evidence is not None]
    cut_off, short = (
        sum(sample.cut_off for sample in marked),
        sum(len(sample.input_ids) < length for sample in marked),
    )
    told = [f"{cut_off} are cut off before their answer ends"] if cut_off else []
    told += [f"{short} are shorter and left out"] if short else []
    if told:
        yield (
            f"warning: {key}: of {len(marked)} texts with an answer, {' and '.join(told)}: "
            f"all sequences of a fit have dataset.max_length ({length:,}) tokens"
        )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Keys in which two records differ."""
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _differences(left, right, "" if key == "settings" else f"{before}{key}.")
        elif left != right:
            yield f"{before}{key}"
