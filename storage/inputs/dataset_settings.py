"""What a study says about its data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from indexscope.settings import Frozen
from indexscope.storage.inputs.needle.settings import NeedleSettings

#: Tokens of a sequence where neither the user nor a model's indexer asks for more.
SHORTEST = 512
BUILTIN = "builtin:"
STDLIB = "builtin:python-stdlib"
NEEDLE = "builtin:needle"


class DatasetSettings(Frozen):
    """Which texts, cut into which sequences. Everything here may change the samples, and nothing else does."""

    source: Annotated[str, Field(min_length=1)] = Field(
        default="builtin:python-stdlib",
        description="builtin:python-stdlib, builtin:needle, a JSONL, Parquet or text file, a folder of them, or a hub "
        "dataset name; rows may mark an answer and its evidence (docs/evidence.md)",
    )
    column: Annotated[str, Field(min_length=1)] = Field(
        default="text",
        description="column or key that holds the text, or lists of token ids; input_ids is used where text is absent",
    )
    max_length: Annotated[int, Field(ge=2)] | Literal["auto"] = Field(
        default="auto",
        description="longest sequence, in tokens; auto: 512, or four times what the largest indexer of the study "
        "selects, where the models' positions and the data allow it; of builtin:needle its longest",
    )
    min_length: Annotated[int, Field(ge=2)] = Field(
        default=2, description="sequences of fewer tokens are left out; a next-token loss needs two"
    )
    samples: Annotated[int, Field(ge=1)] | None = Field(
        default=64, description="number of sequences; null takes the whole dataset, as builtin:needle does by itself"
    )
    seed: int = Field(default=0, description="seed of the shuffle")
    packing: bool = Field(
        default=True,
        description="join documents, the end-of-text token between them, and cut into sequences of max_length; "
        "otherwise one sequence a document, cut off at max_length. Token ids in the data are never joined",
    )
    split: Annotated[str, Field(min_length=1)] = Field(
        default="train", description="split of a folder or hub dataset whose file names tell splits apart"
    )
    needle: NeedleSettings = Field(
        default=NeedleSettings(), description="What builtin:needle hides, where, and in texts of which length."
    )

    @property
    def length(self) -> int:
        """Tokens of the longest sequence, where auto was not decided by a model."""
        if self.source == NEEDLE and self.max_length == "auto":
            return self.needle.lengths[-1]
        return max(SHORTEST, self.min_length) if self.max_length == "auto" else self.max_length

    @model_validator(mode="after")
    def _lengths(self) -> DatasetSettings:
        if self.min_length > self.length:
            raise ValueError(f"min_length {self.min_length} exceeds max_length {self.max_length}")
        return self

    @model_validator(mode="after")
    def _needles(self) -> DatasetSettings:
        if self.source != NEEDLE:
            if "needle" in self.model_fields_set and self.needle != NeedleSettings():
                raise ValueError(f"has needle, which is of {NEEDLE}; set source to that, or remove it")
            return self
        longest = self.needle.lengths[-1]
        if longest > self.length:
            reason = f"would cut the answers of needle.lengths {longest} off at max_length {self.max_length}"
            raise ValueError(f"{reason}; remove max_length, or the lengths above it")
        if "samples" not in self.model_fields_set:
            object.__setattr__(self, "samples", None)  # a part of the cells would be no map
        return self
