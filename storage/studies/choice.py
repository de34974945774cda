"""Which study of a store is meant: by its name, by its identity, or the only one."""

from __future__ import annotations

from collections.abc import Mapping

from indexscope.errors import IndexscopeError
from indexscope.storage.store.store import Store
from indexscope.storage.studies import history
from indexscope.storage.studies.records import StudyRecord, read_records


def known_studies(store: Store) -> dict[str, str]:
    """Names of the studies that have run in a store, by identity; of some only their history may be left."""
    return history.studies(store) | {record.identity: record.study for record in read_records(store)}


def named(store: Store, known: Mapping[str, str], name: str | None) -> list[str]:
    """Identities of the known studies (names by identity) that a user means by a name or an identity; by None, all.

    Raises:
        IndexscopeError: There is none.
    """
    if not known:
        raise IndexscopeError(store.url, "has no record of any study", "give a store in which a study has run")
    found = [identity for identity, title in known.items() if name in (None, title, identity)]
    if not found:
        names = ", ".join(sorted(set(known.values())))
        raise IndexscopeError(store.url, f"knows no study {name!r}", f"choose one of its studies: {names}")
    return found


def choose_identity(store: Store, name: str | None = None) -> tuple[str, str]:
    """Identity and name of a study that has run in a store, or of the only one.

    Raises:
        IndexscopeError: There is no such study, or several to choose from.
    """
    known = known_studies(store)
    found = {identity: known[identity] for identity in named(store, known, name)}
    if len(found) > 1:
        raise _several(store, found, name)
    return next(iter(found.items()))


def choose_run(
    store: Store, name: str | None = None, *, finished: bool = False, option: str = "--study"
) -> StudyRecord:
    """The newest run of a study, by the study's name or identity, or of the only study of a store.

    Args:
        store: The store.
        name: The study; None where there is only one.
        finished: Take only runs that made everything; then studies of other names count as others, even on the same
            features, since their reports differ.
        option: What the user writes before the name, for messages.

    Raises:
        IndexscopeError: There is no such study, or several to choose from.
    """
    records = read_records(store)
    wanted = named(store, {record.identity: record.study for record in records}, name)
    runs = [record for record in records if record.identity in wanted and (record.complete or not finished)]
    if not runs:
        raise IndexscopeError(store.url, f"has no finished run of {name or 'a study'}", "run the study to its end")
    newest = {record.identity: record for record in runs}  # the records of a study end with the newest
    # Studies of one name that two people or machines ran are the same where their features are.
    if len({(record.study if finished else "", *record.models.items()) for record in newest.values()}) == 1:
        return max(newest.values(), key=lambda record: record.seen)
    raise _several(store, {identity: record.study for identity, record in newest.items()}, name, option)


def _several(store: Store, found: Mapping[str, str], name: str | None, option: str = "--study") -> IndexscopeError:
    titles = set(found.values())
    choices = ", ".join(sorted(titles if len(titles) == len(found) else found))
    what = "holds several studies" + ("" if name is None else f" {name!r}")
    return IndexscopeError(store.url, what, f"choose one with {option}: {choices}")
