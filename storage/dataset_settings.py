"""What a study says about its data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from indexscope.settings import Frozen


class DatasetSettings(Frozen):
    """Which texts, cut into which sequences. Everything here may change the samples, and nothing else does."""

    source: Annotated[str, Field(min_length=1)] = Field(
        default="builtin:python-stdlib",
        description="builtin:python-stdlib, a JSONL, Parquet or text file, a folder of them, or a hub dataset name",
    )
    column: Annotated[str, Field(min_length=1)] = Field(
        default="text",
        description="column or key that holds the text, or lists of token ids; input_ids is used where text is absent",
    )
    max_length: Annotated[int, Field(ge=2)] = Field(default=512, description="longest sequence, in tokens")
    min_length: Annotated[int, Field(ge=2)] = Field(
        default=2, description="sequences of fewer tokens are left out; a next-token loss needs two"
    )
    samples: Annotated[int, Field(ge=1)] | None = Field(
        default=64, description="number of sequences; null takes the whole dataset"
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

    @model_validator(mode="after")
    def _lengths(self) -> DatasetSettings:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} exceeds max_length {self.max_length}")
        return self
