"""What needles are hidden, where, and in texts of which length."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from indexscope.settings import Frozen

Kind = Literal["single", "multi_key", "multi_value", "variable_tracking", "copy"]
KINDS: tuple[Kind, ...] = ("single", "multi_key", "multi_value", "variable_tracking", "copy")
#: Below this no kind leaves room for a text to hide it in.
SHORTEST = 64


class NeedleSettings(Frozen):
    """The samples of builtin:needle: `per_cell` of each kind, length and depth."""

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = Field(
        default=KINDS,
        description="What is hidden: one code; one among codes of other things (multi_key); several of one thing "
        "(multi_value); a chain of variables (variable_tracking); a note to be repeated word by word (copy).",
    )
    lengths: Annotated[tuple[Annotated[int, Field(ge=SHORTEST)], ...], Field(min_length=1)] = Field(
        default=(512, 2048, 8192), description="Tokens of a sample, exactly, in the baseline's tokenizer; increasing."
    )
    depths: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Depths at which the farthest needle lies: the middles of so many equal parts of what precedes the "
        "answer.",
    )
    per_cell: int = Field(default=4, ge=1, description="Samples of each kind, length and depth.")
    haystack: Annotated[str, Field(min_length=1)] = Field(
        default="builtin:python-stdlib",
        description="Text around the needles: builtin:python-stdlib, or a file or folder of text.",
    )

    @field_validator("kinds")
    @classmethod
    def _distinct(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("names a kind twice; name each once")
        return kinds

    @field_validator("lengths")
    @classmethod
    def _increasing(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(lengths)):
            raise ValueError("the values must increase")
        return lengths
