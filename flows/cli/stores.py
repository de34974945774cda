"""What the commands on a store share: its argument, and how it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from indexscope import IndexscopeError

if TYPE_CHECKING:
    from indexscope.storage.store.store import Store

#: Exit code of verify and import when something is not as it was committed.
DAMAGED = 1

StoreArgument = Annotated[str, typer.Argument(help="Folder or URL of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def existing_store(url: str, or_empty: bool = False) -> Store:
    """A store that is there.

    Args:
        url: Its folder or URL.
        or_empty: Accept a folder that holds nothing.

    Raises:
        IndexscopeError: There is no such folder, or it holds nothing.
    """
    from indexscope.storage.store.store import Store

    store = Store(url)
    remedy = "give the folder or URL of a store"
    if not store.folder.is_there():
        raise IndexscopeError(url, "is no folder", remedy)
    if not or_empty and not store.folder.sizes():
        raise IndexscopeError(url, "holds nothing", remedy)
    return store


def store_and_study(source: str, name: str | None) -> tuple[Store, str | None]:
    """The store that a study file or a store's address means, and which of its studies is meant, if that was said."""
    from indexscope.flows.finished.study_files import in_store, study_of

    study = study_of(source, name)
    return (existing_store(source), name) if study is None else in_store(study)


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things.

    >>> counted(1, "unit"), counted(1200, "study", "studies")
    ('1 unit', '1,200 studies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
