"""A model that is an edit of another one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import Edit
from indexscope.storage.inputs.fingerprints import FingerprintMode
from indexscope.storage.store.json_types import JSON, canonical_json
from indexscope.tasks.common.origin import Origin

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from indexscope.storage.inputs.checkpoints import CheckpointInfo
    from indexscope.storage.inputs.model_skeleton import Dtype

#: Raise it when an edit makes another model than before.
EDITS_VERSION = 1


@dataclass(frozen=True)
class EditedModel:
    """Another model with an edit made.

    Attributes:
        origin: That model.
        edit: What is changed.
    """

    origin: Origin
    edit: Edit

    def fingerprint(self, mode: FingerprintMode) -> str:
        """Hash of what determines the model; that of the other one where the edit changes nothing."""
        of = self.origin.fingerprint(mode)
        if self.edit.changes_nothing:
            return of
        change: JSON = self.edit.model_dump(mode="json", exclude_defaults=True)
        parts: dict[str, JSON] = {"model": of, "edit": change, "version": EDITS_VERSION}
        return sha256(canonical_json(parts).encode()).hexdigest()

    def load(self, dtype: Dtype, device: str) -> object:
        """The other model, edited.

        Raises:
            IndexscopeError: It cannot be loaded, or not be edited so.
        """
        model = self.origin.load(dtype, device)
        self.change(model)
        return model

    def change(self, model: Any) -> None:
        """Make the edit, in a model that was loaded, or that is read layer by layer.

        Raises:
            IndexscopeError: It cannot be edited so.
        """
        from transformers import PreTrainedModel

        from indexscope.analysis.capture.streaming.model import StreamedModel
        from indexscope.analysis.edits.apply import apply_edit

        if isinstance(model, StreamedModel):
            apply_edit(model.model, self.edit)
            model.changed()
            return
        if not isinstance(model, PreTrainedModel):
            reason = "is a model of your own code, which an edit cannot change"
            raise IndexscopeError(
                type(model).__name__, reason, "edit a model of transformers, or write the change there"
            )
        apply_edit(model, self.edit)

    def told(self) -> AbstractContextManager[None]:
        """As of the other model."""
        return self.origin.told()


def edited_info(skeleton: PreTrainedModel, edit: Edit, info: CheckpointInfo) -> CheckpointInfo:
    """What an edited model says of itself, told without its weights.

    Args:
        skeleton: The model on the meta device.
        edit: What is changed.
        info: What the model says of itself.

    Raises:
        IndexscopeError: The model cannot be edited so.
    """
    from indexscope.analysis.capture.facts import parameters
    from indexscope.analysis.capture.model import most_selected
    from indexscope.analysis.edits.apply import edited

    before = parameters(skeleton)
    with edited(skeleton, edit):
        topk = most_selected(skeleton)
        return replace(
            info,
            parameters=info.parameters - before + parameters(skeleton),
            index_topk=topk,
            selects_all_of=topk,
        )
