"""The study file: what is compared, on which data, with which settings, and where results go."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from indexscope.analysis.analyses import AnalysisSettings
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.settings import CloseupSettings, ComparisonSettings, ExtractSettings, Lengths
from indexscope.flows.engine.settings import RunnerSettings
from indexscope.settings import Frozen
from indexscope.storage.inputs.dataset_settings import NEEDLE, DatasetSettings
from indexscope.storage.inputs.fingerprints import FingerprintMode
from indexscope.storage.inputs.selections.names import Format


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("has control characters, or spaces at an end")
    return text


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]


class ModelEdit(Edit):
    """A change of another model, which makes a model."""

    of: Text = Field(
        "",
        validate_default=False,
        description="Checkpoint that is edited: a folder, builtin:NAME or a hub name; by default the baseline.",
    )

    @property
    def plain(self) -> Edit:
        """What it changes, whatever it changes it of."""
        return Edit(**{key: getattr(self, key) for key in Edit.model_fields})


class ModelRef(Frozen):
    """A model and what the study calls it: a checkpoint, one's own function's, an edit of another, or selections."""

    path: Text = Field(
        "",
        validate_default=False,
        description="builtin:baseline, builtin:light, a checkpoint folder, or a hub name (owner/name).",
    )
    loader: Text = Field(
        "",
        validate_default=False,
        description="In place of a path, FILE.py:FUNCTION of your own that returns a model (docs/own-models.md); it "
        "runs as it is.",
    )
    root: Text = Field(
        "",
        validate_default=False,
        description="Folder that the loader's file imports from as a script run there would; by default the study "
        "file's, where the loader lies below it, else its own.",
    )
    weights: Text = Field(
        "", validate_default=False, description="File or folder that the loader gets first, as a path."
    )
    arguments: dict[str, JsonValue] = Field({}, description="Keyword arguments of the loader.")
    tokenizer: Text = Field(
        "",
        validate_default=False,
        description="Whose tokenizer the loader's model has: builtin:baseline, a folder or a hub name; without one, "
        "the data must be token ids.",
    )
    selections: Text = Field(
        "",
        validate_default=False,
        description="In place of a path, a file or folder of selections that a serving engine or another program "
        "dumped (docs/selections.md); they are compared with the baseline's.",
    )
    format: Format | Literal[""] = Field("", description="How selections are written: sglang, vllm, parquet or npz.")
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="The model's layer that each layer of the selections is; by default all that select."
    )
    indexer: Text = Field(
        "",
        validate_default=False,
        description="Folder of an indexer that `indexscope fit` fitted to the checkpoint at `path`; it selects in "
        "place of the checkpoint's own, or where that has none (docs/fitting.md).",
    )
    topk: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Keys that the fitted indexer selects for a query; by default those that it was tuned for."
    )
    edit: ModelEdit | None = Field(
        None,
        description="In place of a path, a change of the baseline's indexers, or `of` another model's; beside a fitted "
        "indexer, of that: indexer_heads, topk, share, precision, selector (docs/edits.md).",
    )
    name: Name = Field("", validate_default=False, description="What tables call it; by default the end of the path.")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"path": value}
        if isinstance(value, dict) and not value.get("name"):
            keys = ("indexer", "path", "weights", "loader", "selections")
            told = [value[key] for key in keys if isinstance(value.get(key), str)]
            return {**value, "name": _last_part(told[0]) or told[0]} if any(told) else value
        return value

    @model_validator(mode="after")
    def _named_by_its_edit(self) -> ModelRef:
        if self.edit is not None and not self.name:
            return self.model_copy(update={"name": self.edit.words[:80]})
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> ModelRef:
        if self.indexer and not self.path:
            raise ValueError("has a fitted indexer without a path; add the checkpoint that it was fitted to as path")
        given = [key for key in ("path", "loader", "selections", "edit") if getattr(self, key)]
        if self.indexer and given == ["path", "edit"]:
            given = ["path"]  # the edit is of the checkpoint under that indexer
        if len(given) != 1:
            both = f"both {_a(given[0])} and {_a(given[1])}" if given else "neither a path nor a loader"
            remedy = "give path, a checkpoint, or loader, FILE.py:FUNCTION of your own"
            if given[-1:] == ["edit"]:
                remedy = "remove it, or name the model to be edited as `of` in edit"
            raise ValueError(f"has {both}; {remedy}")
        if not self.loader:
            extra = next((key for key in ("root", "weights", "arguments", "tokenizer") if getattr(self, key)), None)
            if extra is not None:
                raise ValueError(f"has {extra}, which is a loader's; remove it, or give a loader in place of the path")
        if self.topk is not None and not self.indexer:
            raise ValueError("has topk, which is a fitted indexer's; remove it, or write it into edit: {topk: …}")
        if not self.selections:
            extra = next((key for key in ("format", "layers") if getattr(self, key)), None)
            if extra is not None:
                raise ValueError(f"has {extra}, which is that of selections; remove it, or give selections")
        elif not self.format:
            raise ValueError("has selections without a format; add format: sglang, vllm, parquet or npz")
        if self.loader and not re.fullmatch(r".+\.py:[^\W\d]\w*", self.loader):
            reason = f"has the loader {self.loader!r}, which is not FILE.py:FUNCTION"
            raise ValueError(f"{reason}; write for example models.py:load_sparse")
        return self

    def __hash__(self) -> int:
        """A study is the key of its plan, which the arguments alone could not be."""
        return hash(self.model_dump_json())


class Candidate(ModelRef):
    """A model that is compared with the baseline, at a step of a series where it belongs to one."""

    series: Name = Field(
        "",
        validate_default=False,
        description="Series that the candidate belongs to, at a step of it (docs/series.md).",
    )
    at: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="The candidate's step in its series: a number of training steps, or of whatever its axis is."
    )

    @model_validator(mode="after")
    def _placed_in_its_series(self) -> Candidate:
        if self.series and self.at is None:
            raise ValueError(f"is of the series {self.series!r} without a step; add at, a number")
        if self.at is not None and not self.series:
            raise ValueError("has at, which is a place in a series; add series, its name")
        if self.series and self.selections:
            raise ValueError("has selections, of which there is no series; remove series and at")
        return self

    def __hash__(self) -> int:
        """As that of any model: where a class says what is equal, it is asked anew how it is hashed."""
        return hash(self.model_dump_json())


#: Keys of a candidate that may hold the `*` of a series.
STARRED = ("path", "indexer", "weights", "edit.of")


class Series(Frozen):
    """Candidates in the order of a number: the checkpoints of a training, or whatever else goes by steps."""

    name: Name = Field(description="What tables call it; a member is called by it and its step.")
    models: ModelRef | None = Field(
        None,
        description="The members: a path with a *, such as runs/step-*, or a candidate whose path, indexer, weights or "
        "edit.of has one (docs/series.md); without it, the candidates that name the series.",
    )
    axis: Name = Field("step", description="What the numbers count; the number after this word is read from a name.")
    settled_for: float = Field(
        10.0,
        ge=0.0,
        le=86400.0,
        description="Seconds that the files of a member must not have changed for; younger ones wait for the next run.",
    )

    @field_validator("models", mode="before")
    @classmethod
    def _named_by_its_steps(cls, value: Any) -> Any:
        if isinstance(value, dict):
            extra = next((key for key in ("name", "series", "at") if key in value), None)
            if extra is not None:
                raise ValueError(f"has {extra}, which is made of the series and each member's step; remove it")
            if value.get("selections"):
                raise ValueError("has selections, of which there is no series; give models that are run")
        return value

    @model_validator(mode="after")
    def _one_star(self) -> Series:
        if self.models is None:
            return self
        starred = [key for key in STARRED if "*" in text_at(self.models, key)]
        if len(starred) != 1:
            has = f"a * in {' and in '.join(starred)}" if starred else "no *"
            raise ValueError(f"has models with {has}; put one path with a * into them, such as runs/step-*")
        return self

    @property
    def starred(self) -> str:
        """The key of the models that has the `*`."""
        return next(key for key in STARRED if self.models is not None and "*" in text_at(self.models, key))


def text_at(model: ModelRef, key: str) -> str:
    """What a model has under one of the keys `STARRED`."""
    if key == "edit.of":
        return model.edit.of if model.edit is not None else ""
    return str(getattr(model, key))


def with_text(model: ModelRef, key: str, text: str) -> ModelRef:
    """The model with another text under one of the keys `STARRED`."""
    if key == "edit.of" and model.edit is not None:
        return model.model_copy(update={"edit": model.edit.model_copy(update={"of": text})})
    return model.model_copy(update={key: text})


class Gate(Frozen):
    """A condition on the comparison that a study must meet."""

    rule: Text = Field(
        description="<metric>[.difference|.value|.ratio] <op> <number>[%] [on lower|on upper] [per layer|at layer N|"
        "at length N], "
        "e.g. nll.difference <= 0.05 on upper."
    )
    name: Name = Field("", validate_default=False, description="What the report calls it; by default the rule.")

    @model_validator(mode="before")
    @classmethod
    def _from_rule(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"rule": value}
        if isinstance(value, dict) and isinstance(value.get("rule"), str) and not value.get("name"):
            return {**value, "name": value["rule"][:80]}
        return value


class Study(Frozen):
    """One study: a baseline, its candidates, the data, and everything that is to be done with them."""

    name: Name = Field(description="Title of the report; its folder is named after it.")
    baseline: ModelRef = Field(
        description="The model that the others are compared with: a path, or a loader of your own (docs/own-models.md)."
    )
    candidates: tuple[Candidate, ...] = Field(
        (),
        description="Models to compare with the baseline, or selections that an engine dumped (docs/selections.md); "
        "none is fine.",
    )
    series: tuple[Series, ...] = Field(
        (), description="Candidates in the order of a number, such as the checkpoints of a training (docs/series.md)."
    )
    dataset: DatasetSettings = Field(DatasetSettings(), description="The data; every model sees the same token ids.")
    lengths: Annotated[Lengths, Field(min_length=2)] | None = Field(
        None,
        description="Lengths (tokens) at which all metrics of features are given, of the first so many tokens of each "
        "sample; the last is the longest sample's (docs/lengths.md).",
    )
    extract: ExtractSettings = Field(ExtractSettings(), description="How models are run and features are made.")
    closeup: CloseupSettings = Field(CloseupSettings(), description="The close look at some queries of some samples.")
    shard_size: int = Field(8, ge=1, description="Samples a shard: the unit of work, of retry and of caching.")
    fingerprint: FingerprintMode = Field(
        "sampled", description="How much of a checkpoint above 256 MiB is hashed: sampled (fast), or full (every byte)."
    )
    analyses: AnalysisSettings = Field(AnalysisSettings(), description="Settings of the analyses; they need no model.")
    comparison: ComparisonSettings = Field(ComparisonSettings(), description="Comparison of candidates with baseline.")
    plugins: tuple[Text, ...] = Field(
        (), description="Python files with metrics of your own (docs/plugins.md); they run as they are."
    )
    gates: tuple[Gate, ...] = Field((), description="Conditions; a study that fails one exits with 1.")
    store: Text = Field(".indexscope", description="Folder or URL (s3://…) that keeps features and results.")
    report: Text = Field("reports", description="Folder in which the study's report folder is made.")
    runner: RunnerSettings = Field(RunnerSettings(), description="How the work is spread; it changes no result.")

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates)

    @property
    def measured(self) -> tuple[ModelRef, ...]:
        """Those of them that are run."""
        return tuple(model for model in self.models if not model.selections)

    @property
    def dumped(self) -> tuple[ModelRef, ...]:
        """Those of them that are selections from elsewhere."""
        return tuple(model for model in self.models if model.selections)

    @property
    def slug(self) -> str:
        """The name as a folder and as a Prefect artifact key may hold it."""
        return slug(self.name)

    @field_validator("series", mode="before")
    @classmethod
    def _one_series(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("series")
    @classmethod
    def _distinct_series(cls, series: tuple[Series, ...]) -> tuple[Series, ...]:
        _refuse_repeats([one.name for one in series])
        return series

    @field_validator("plugins", mode="before")
    @classmethod
    def _one_file(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("gates")
    @classmethod
    def _distinct_gates(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        _refuse_repeats([gate.name for gate in gates])
        return gates

    @model_validator(mode="after")
    def _as_long_as_asked(self) -> Study:
        """Samples of the longest length that is asked for."""
        if self.lengths is None:
            return self
        longest, data = self.lengths[-1], self.dataset
        if self.lengths[0] < 2:
            raise ValueError(f"has lengths that begin with {self.lengths[0]}; a next-token loss needs two tokens")
        if not self.measured:
            raise ValueError("has lengths, and no model that is run; remove them")
        own = data.max_length != "auto" or data.source == NEEDLE
        if own and data.length != longest:
            where = "dataset.needle.lengths end" if data.max_length == "auto" else "dataset.max_length is"
            reason = f"has lengths up to {longest}, and {where}{' with' if where.endswith('end') else ''} {data.length}"
            raise ValueError(f"{reason}; let both be the same, or leave max_length out")
        if data.min_length > longest:
            raise ValueError(f"has lengths up to {longest}, and dataset.min_length is {data.min_length}; lower it")
        object.__setattr__(self, "dataset", data.model_copy(update={"max_length": longest}))
        return self

    @model_validator(mode="after")
    def _distinct_models(self) -> Study:
        _refuse_repeats([model.name for model in self.models])
        _refuse_equal_steps(self.candidates)
        if self.baseline.edit is not None and not self.baseline.edit.of:
            raise ValueError("has a baseline that is an edit of nothing; add `of`, the checkpoint to be edited, to it")
        edits = any(model.edit is not None and not model.edit.of for model in self.candidates)
        if self.baseline.selections and edits:
            raise ValueError(
                "has an edit of a baseline that is selections; add `of`, the checkpoint to be edited, to it"
            )
        if self.baseline.selections and self.measured:
            reason = (
                f"has selections as its baseline, with which the model {self.measured[0].name!r} cannot be compared"
            )
            raise ValueError(f"{reason}; make the model the baseline, or give selections alone")
        return self


def report_folder(study: Study) -> str:
    """Folder or URL that a study's report is written into."""
    return f"{study.report.rstrip('/')}/{study.slug}"


def identity_of(study: Study) -> str:
    """Tells a study from those of the same name that others run on the same store, by where its report goes."""
    digest = sha256(f"{study.name}\n{study.report}".encode()).hexdigest()[:8]
    return f"{study.slug}-{digest}"


def slug(text: str) -> str:
    """Lower-case letters, digits and single dashes.

    >>> slug("Light vs. baseline, 2 heads")
    'light-vs-baseline-2-heads'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if re.search(r"[a-z0-9]", plain) and text.isascii():
        return plain
    # Letters beyond ASCII drop out, so two names could meet; a few digits of a hash keep them apart.
    return "-".join(filter(None, [plain, sha256(text.encode()).hexdigest()[:6]]))


def _refuse_equal_steps(candidates: tuple[Candidate, ...]) -> None:
    seen: dict[tuple[str, float], str] = {}
    for model in candidates:
        if model.at is None:
            continue
        place = model.series, model.at
        if place in seen:
            both = f"{seen[place]!r} and {model.name!r}, both at {model.at:.15g}"
            raise ValueError(f"has two members of the series {model.series!r}, {both}; give each a step of its own")
        seen[place] = model.name


def _a(key: str) -> str:
    return {"selections": key, "edit": "an edit"}.get(key, f"a {key}")


def _last_part(path: str) -> str:
    return re.split(r"[/\\:]", path.rstrip("/\\"))[-1][:80]


def _refuse_repeats(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"uses the name {repeated[0]!r} twice; give each a name of its own")
