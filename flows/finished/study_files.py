"""A study file as the name of what has run: which store it means, and what the study is called there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexscope import IndexscopeError
from indexscope.storage.store.store import Store
from indexscope.storage.studies.choice import known_studies

if TYPE_CHECKING:
    from indexscope.flows.study.config import Study


def study_of(source: str, name: str | None) -> Study | None:
    """The study of a study file, of which no code is run; None where something else is given.

    Raises:
        IndexscopeError: The file cannot be read, or the user named another study beside it.
    """
    if Path(source).suffix not in (".yaml", ".yml"):
        return None
    from indexscope.flows.study.load import load_study

    study = load_study(source, gates=False)
    if name not in (None, study.name):
        raise IndexscopeError(f"--study {name}", f"{source} is the study {study.name}", "leave --study out")
    return study


def in_store(study: Study) -> tuple[Store, str]:
    """A study's store and its identity there; its name where its folder was copied, which gives another identity."""
    from indexscope.flows.study.config import identity_of

    store, identity = Store(study.store), identity_of(study)
    return store, identity if identity in known_studies(store) else study.name
