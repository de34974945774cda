"""What an edit changes of a model's indexers; read without torch, as study files are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from indexscope.settings import Frozen

Layer = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Precision = Literal["bfloat16", "float16", "fp8", "fp4", "int8"]


class Learned(Frozen):
    """The model's own indexers select."""


class Oracle(Frozen):
    """The k keys with the most dense attention, averaged over heads: the best that an indexer of k keys could do."""


class Random(Frozen):
    """k eligible keys, drawn evenly."""

    seed: int = Field(0, ge=0, description="Another seed draws others.")


class Recent(Frozen):
    """The last keys and the first ones, whatever they hold: a sliding window with attention sinks."""

    window: Count = Field(60, description="Keys up to the query, itself included.")
    sink: int = Field(4, ge=0, description="First keys of the sequence.")


class Block(Frozen):
    """Whole blocks of keys, by their index scores."""

    size: Count = Field(64, description="Keys a block.")
    pool: Literal["max", "mean"] = Field("max", description="What a block's score is of those of its keys.")
    keep: Count = Field(8, description="Blocks a query; the one it lies in is always among them.")


class TwoStage(Frozen):
    """Blocks first, by the index score of the mean of their indexer keys, then the k best keys inside them.

    Source: HISA (arXiv 2603.28458); DeepSeek-V4.1's report selects blocks, then tokens, too.
    """

    block: Count = Field(128, description="Keys a block.")
    keep: Count = Field(64, description="Blocks a query; the one it lies in is always among them.")


class Selector(Frozen):
    """Who selects: one of these."""

    learned: Learned | None = None
    oracle: Oracle | None = None
    random: Random | None = None
    recent: Recent | None = None
    block: Block | None = None
    two_stage: TwoStage | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """``oracle`` is short for ``{oracle: {}}``."""
        if isinstance(value, str):
            return {value: {}}
        return {key: {} if one is None else one for key, one in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one(self) -> Selector:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"names {len(self.model_fields_set)} selectors; give one of {', '.join(SELECTORS)}")
        return self

    @property
    def name(self) -> str:
        """Which it is."""
        return next(iter(self.model_fields_set))

    @property
    def words(self) -> str:
        """Its name, and the settings that it was given."""
        return " ".join([self.name.replace("_", " "), *map(str, self.kind.model_dump(exclude_unset=True).values())])

    @property
    def kind(self) -> Learned | Oracle | Random | Recent | Block | TwoStage:
        """Its settings."""
        found: Learned | Oracle | Random | Recent | Block | TwoStage = getattr(self, self.name)
        return found


SELECTORS = tuple(Selector.model_fields)
#: Those that ask the layer's indexer for its scores.
SCORING = ("learned", "block", "two_stage")


class Edit(Frozen):
    """A change of a model's indexers; all that is not named stays. Edits of several kinds go together.

    The order in which they take effect: heads are dropped, scores are rounded, the selector picks k of them, and
    layers that share take what the layer before them picked.
    """

    indexer_heads: Mapping[Layer, tuple[Annotated[int, Field(ge=0)], ...]] = Field(
        {}, description="Indexer heads that stay, by layer; other layers keep all."
    )
    topk: Mapping[Layer | Literal["default"], Count] = Field(
        {}, description="Keys that a query selects: one number, or by layer, `default` for those not named."
    )
    share: str = Field(
        "",
        description="A letter a layer: F selects for itself, S takes the selection of the nearest F before it.",
    )
    precision: Precision | None = Field(None, description="Of index scores: what queries and keys are rounded to.")
    selector: Selector = Field(
        Selector(learned=Learned()),
        description="Who selects: learned, oracle, random, recent (window, sink), block (size, pool, keep) or "
        "two_stage (block, keep).",
    )

    @field_validator("share")
    @classmethod
    def _letters(cls, value: str) -> str:
        if not re.fullmatch("(F[FS]*)?", value):
            raise ValueError("has letters other than F and S, or does not begin with F; write for example FSFS")
        return value

    @field_validator("topk", mode="before")
    @classmethod
    def _everywhere(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) else {"default": value}

    @field_validator("indexer_heads")
    @classmethod
    def _some_heads(cls, value: Mapping[int, tuple[int, ...]]) -> Mapping[int, tuple[int, ...]]:
        for layer, heads in value.items():
            if not heads:
                raise ValueError(f"leaves layer {layer} no head; name one at least, or let the layer share")
            if len(set(heads)) < len(heads):
                raise ValueError(f"names a head of layer {layer} twice")
        return {layer: tuple(sorted(heads)) for layer, heads in sorted(value.items())}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def changes_nothing(self) -> bool:
        """Whether it leaves the model as it is."""
        return not self.model_dump(exclude_defaults=True)

    @property
    def words(self) -> str:
        """What it changes, in a few words.

        >>> Edit(indexer_heads={2: [0, 1]}, topk={"default": 32, 0: 96}, share="FFFS", precision="fp8").words
        'heads 2:0+1, k 32 0:96, share FFFS, fp8'
        """
        heads = " ".join(f"{layer}:{'+'.join(map(str, heads))}" for layer, heads in self.indexer_heads.items())
        topk = " ".join(str(k) if layer == "default" else f"{layer}:{k}" for layer, k in self.topk.items())
        parts = [
            "" if self.selector.name == "learned" else self.selector.words,
            heads and f"heads {heads}",
            topk and f"k {topk}",
            self.share and f"share {self.share}",
            self.precision or "",
        ]
        return ", ".join(filter(None, parts)) or "unchanged"

    def topk_of(self, layer: int) -> int | None:
        """Keys a query in a layer; None where the edit does not say."""
        return self.topk.get(layer, self.topk.get("default"))

    def sources(self, layers: Iterable[int]) -> dict[int, int]:
        """The layer whose selection each layer takes, itself where it selects.

        Args:
            layers: Those that select, ascending; the first is one that selects for itself.
        """
        found, last = {}, 0
        for layer in layers:
            last = last if layer < len(self.share) and self.share[layer] == "S" else layer
            found[layer] = last
        return found
