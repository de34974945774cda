"""A study is found by its name, by its identity or as the only one, and whoever asks gets the same answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.store.store import Store
from indexscope.storage.studies.choice import choose_identity, choose_run
from indexscope.storage.studies.history import add_run
from indexscope.storage.studies.records import new_record
from tests.storage.studies.test_export import MODELS


def test_the_newest_run_of_the_study_is_chosen(store: Store) -> None:
    with pytest.raises(IndexscopeError, match="has no record of any study"):
        choose_run(store)
    old = new_record("mine", "mine-1", {"base": MODELS["light"]}, [])
    new = replace(new_record("mine", "mine-1", MODELS, []), seen=old.seen + timedelta(seconds=1))
    for record in (new, old):
        store.folder.write(record.file, record.encode())
    assert list(choose_run(store).models.items()) == list(MODELS.items())
    # The same features by another person's study of the same name are no second choice.
    twin = replace(new, identity="mine-2")
    store.folder.write(twin.file, twin.encode())
    assert choose_run(store, "mine").models == MODELS
    other = replace(old, study="other", identity="other-1")
    store.folder.write(other.file, other.encode())
    with pytest.raises(IndexscopeError, match="holds several studies; choose one with --study"):
        choose_run(store)
    assert choose_run(store, "other") == other
    assert choose_run(store, "other-1") == other


def test_finished_runs_only_and_each_name_a_study_of_its_own(store: Store) -> None:
    old = replace(new_record("mine", "mine-1", MODELS, ["reports/old"]), complete=True)
    running = replace(new_record("mine", "mine-1", MODELS, ["reports/new"]), seen=old.seen + timedelta(seconds=1))
    store.folder.write(running.file, running.encode())
    with pytest.raises(IndexscopeError, match="has no finished run of mine; run the study to its end"):
        choose_run(store, "mine", finished=True)
    store.folder.write(old.file, old.encode())
    assert choose_run(store) == running
    assert choose_run(store, finished=True) == old
    # The same features in a study of another name: one export, but two reports.
    other = replace(old, study="other", identity="other-1", steps=("reports/other",))
    store.folder.write(other.file, other.encode())
    assert choose_run(store).models == MODELS
    with pytest.raises(IndexscopeError, match="holds several studies; choose one with --study: mine, other"):
        choose_run(store, finished=True)
    assert choose_run(store, "other", finished=True) == other


def test_a_study_of_which_only_the_history_is_left_is_known(store: Store) -> None:
    with pytest.raises(IndexscopeError, match="has no record of any study"):
        choose_identity(store)
    record = new_record("mine", "mine-1", MODELS, [])
    add_run(store, "gone", "gone-1", "reports/gone", {}, record.seen)
    assert choose_identity(store) == ("gone-1", "gone")
    store.folder.write(record.file, record.encode())
    with pytest.raises(IndexscopeError, match="holds several studies; choose one with --study: gone, mine"):
        choose_identity(store)
    assert choose_identity(store, "mine") == choose_identity(store, "mine-1") == ("mine-1", "mine")
    with pytest.raises(IndexscopeError, match="knows no study 'other'; choose one of its studies: gone, mine"):
        choose_identity(store, "other")
    with pytest.raises(IndexscopeError, match="knows no study 'gone'"):
        choose_run(store, "gone")


def test_studies_of_one_name_are_told_apart_by_their_identities(store: Store) -> None:
    for identity, model in (("mine-1", "base"), ("mine-2", "light")):
        record = new_record("mine", identity, {"base": MODELS[model]}, [])
        store.folder.write(record.file, record.encode())
    for choose in (choose_run, choose_identity):
        with pytest.raises(IndexscopeError, match="several studies 'mine'; choose one with --study: mine-1, mine-2"):
            choose(store, "mine")
    with pytest.raises(IndexscopeError, match="choose one with study=: mine-1, mine-2"):
        choose_run(store, option="study=")
