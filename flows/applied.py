"""An edit of a study written as a checkpoint of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import Edit
from indexscope.flows.study.config import ModelEdit, ModelRef, Study
from indexscope.storage.inputs.checkpoints import describe, resolve
from indexscope.storage.inputs.model_skeleton import Dtype

#: What the headers of weight files call the types that a model can be loaded in.
STORED: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Wanted:
    """What is to be written.

    Attributes:
        name: What the study calls it.
        of: Folder of the checkpoint that is edited.
        edit: What is changed.
    """

    name: str
    of: Path
    edit: Edit


def wanted(study: Study, title: str, name: str | None) -> Wanted:
    """The edit of a study that is meant: the named one, or the only one.

    Raises:
        IndexscopeError: There is none such, or it is of no checkpoint.
    """
    edits = {model.name: model.edit for model in study.models if model.edit is not None}
    if not edits:
        raise IndexscopeError(
            title, "has no candidate that is an edit", "add one: {name: …, edit: {…}} (docs/edits.md)"
        )
    if name is None and len(edits) > 1:
        raise IndexscopeError(title, f"has {len(edits)} edits", f"choose one with --model: {', '.join(edits)}")
    chosen = name if name is not None else next(iter(edits))
    if chosen not in edits:
        raise IndexscopeError(f"--model {chosen}", f"is no edit of {title}", f"choose one of {', '.join(edits)}")
    edit: ModelEdit = edits[chosen]
    of = ModelRef.model_validate(edit.of) if edit.of else study.baseline
    if not of.path:
        raise IndexscopeError(chosen, "edits a model that is no checkpoint", "name a checkpoint as `of` in edit")
    return Wanted(chosen, resolve(of.path), edit.plain)


def write_edited(made: Wanted, out: Path) -> None:
    """Load the checkpoint in the type that it is stored in, edit it, and write it with a configuration that says so.

    Raises:
        IndexscopeError: The model cannot be edited so, its configuration cannot say so, or the folder is taken.
    """
    from indexscope.analysis.edits.apply import apply_edit
    from indexscope.analysis.edits.check import check_edit
    from indexscope.analysis.edits.configured import configured
    from indexscope.analysis.edits.places import places_of
    from indexscope.storage.inputs.model_loading import load_model
    from indexscope.storage.inputs.model_saving import refuse_taken, save_model
    from indexscope.storage.inputs.model_skeleton import load_skeleton

    refuse_taken(out)
    skeleton = load_skeleton(made.of)
    check_edit(skeleton, places_of(skeleton), made.edit)
    changes = configured(skeleton, made.edit)
    stored = [STORED[name] for name in describe(made.of).dtypes if name in STORED]
    dtype: Dtype = stored[0] if stored else "float32"
    model = load_model(made.of, dtype, "cpu")
    apply_edit(model, made.edit)
    config = model.config.get_text_config(decoder=True)
    for key, value in changes.items():
        setattr(config, key, value)
    card = f"# {made.name}\n\nMade by `indexscope apply` of {made.of.name}: {made.edit.words}.\n"
    save_model(model, out, made.of, card)
