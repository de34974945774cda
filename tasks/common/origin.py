"""Where a model comes from, and what a job is told of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from indexscope.storage.inputs.fingerprints import FingerprintMode

if TYPE_CHECKING:
    from indexscope.storage.inputs.model_skeleton import Dtype

Kind = Literal["whole", "devices", "stream"]
"""Where a model's weights are while it runs, as `extract.placement` names it."""


class Origin(Protocol):
    """Where a model comes from: a checkpoint's folder, or a loader of the user's own."""

    def fingerprint(self, mode: FingerprintMode) -> str:
        """Hash of what determines the model."""
        ...

    def load(self, dtype: Dtype, device: str) -> object:
        """The model, in eval mode."""
        ...

    def told(self) -> AbstractContextManager[None]:
        """Turns what the model's own code raises while it runs into one line."""
        ...


@runtime_checkable
class Changed(Protocol):
    """A model that is another one with something changed in place."""

    @property
    def origin(self) -> Origin:
        """That model."""
        ...

    def change(self, model: Any) -> None:
        """Make the change, in a model that was loaded, or that is read layer by layer."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Which model a job needs, and what people call it.

    Attributes:
        name: What people call it.
        origin: Where it comes from.
        fingerprint: Hash of what determines it.
        placement: Where its weights are to be, as the plan decided; None where whoever loads it decides, by the memory
            of its own machine.
    """

    name: str
    origin: Origin
    fingerprint: str
    placement: Kind | None = None
