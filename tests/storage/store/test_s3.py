"""A bucket behind a real S3 endpoint on this machine: the same promises as a disk, also while the endpoint fails."""

from __future__ import annotations

import asyncio
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor

import fsspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.errors import IndexscopeError
from indexscope.storage.store import passes
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.records import in_use, new_record
from indexscope.storage.upkeep.collect import collect, survey
from indexscope.storage.upkeep.merge import merge
from indexscope.storage.upkeep.verify import Finding, verify
from tests.s3 import Faults

KEY = step_key("features", {"checkpoint": "abc"})
UNITS = ["shard-00000", "shard-00001"]
FRAME = pl.DataFrame({"sample": [0, 1], "nll": [1.5, 2.5]})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried soon: the waits of botocore and s3fs are theirs to test."""
    wait = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds, *more: wait(seconds / 50, *more))


def filled(url: str) -> Store:
    store = Store(url)
    with in_use(store, new_record("s", "s-1", {"base": KEY.path}, [KEY.path]), print):
        store.prepare(KEY, "base", UNITS)
        for unit in UNITS:
            store.commit(KEY, unit, {"tokens": FRAME}, "base")
    return store


def test_a_bucket_holds_the_same_bytes_as_a_disk(bucket: str, tmp_path) -> None:
    remote, local = filled(bucket), filled(str(tmp_path))
    names = [name for name in local.folder.sizes() if not name.startswith("_studies")]
    assert [name for name in remote.folder.sizes() if not name.startswith("_studies")] == names
    assert all(remote.folder.read(name) == local.folder.read(name) for name in names)
    assert remote.list_steps()["state"].to_list() == ["complete"]
    assert_frame_equal(remote.read(KEY, "tokens"), pl.concat([FRAME, FRAME]))
    everything = b"".join(remote.folder.read(name) for name in remote.folder.sizes())
    assert b"planted-" not in everything


def test_the_commit_of_a_pass_is_whole_or_the_one_before_in_a_bucket_too(bucket: str) -> None:
    store, unit = Store(bucket), "shard-00000"
    part = secrets.token_bytes(6 << 20)  # of several parts

    def put(layer: int, ended: bool = True) -> None:
        with passes.writing(store, KEY, unit, "base", passes.Standing("code", "ids", layer, 61)) as file:
            for _ in range(2):
                file.write(part)
            if not ended:
                raise OSError("lost")

    put(3)
    with pytest.raises(OSError, match="lost"):
        put(4, ended=False)
    with passes.reading(store, KEY, unit) as (found, file):
        assert found is not None and file is not None
        into = bytearray(2 * len(part))
        got = 0
        while got < len(into):
            got += file.readinto(memoryview(into)[got:])  # type: ignore[attr-defined]
        assert found.layer == 3 and bytes(into) == part * 2 and file.read() == b""
    assert passes.units_of(store, KEY) == [unit]
    passes.forget(store, KEY, unit)
    passes.forget(store, KEY, unit)
    assert passes.standing(store, KEY, unit) is None


def test_housekeeping_works_on_a_bucket(bucket: str, tmp_path) -> None:
    store = filled(bucket)
    other = step_key("analyses/distribution", {"features": KEY.digest})
    store.commit(other, "result", {"summary": FRAME}, "unused")
    found: list[Finding] = []
    assert verify(store, found.append).units == 3
    assert found == []
    path = f"{KEY.path}/tokens/{UNITS[1]}.parquet"
    data = store.folder.read(path)
    store.folder.fs.pipe_file(store.folder.path(path), data[:-1] + b"x")
    verify(store, found.append)
    assert [(finding.unit, finding.file) for finding in found] == [(UNITS[1], f"tokens/{UNITS[1]}.parquet")]
    store.discard(KEY, UNITS[1])
    store.commit(KEY, UNITS[1], {"tokens": FRAME}, "base")
    assert store.folder.read(path) == data
    from datetime import timedelta

    collected = collect(store, survey(store, timedelta(0), []))
    assert [part.step for part in collected] == [other.path]
    assert merge(store, Store(tmp_path / "copy"), print).copied == [f"{KEY.path}/{unit}" for unit in UNITS]


@pytest.mark.parametrize("status", ["503 SlowDown", "500 InternalError", "502 BadGateway"])
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_errors_that_pass_are_not_noticed(bucket: str, endpoint: tuple[str, Faults], method: str, status: str) -> None:
    faults = endpoint[1]
    store = Store(bucket)
    store.commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    faults.status, faults.failed, faults.left[method] = status, 0, 2
    store.commit(KEY, UNITS[1], {"tokens": FRAME}, "base")
    assert_frame_equal(store.read(KEY, "tokens"), pl.concat([FRAME, FRAME]))
    assert faults.failed == 2


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_requests_that_time_out_are_not_noticed(
    bucket: str, endpoint: tuple[str, Faults], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.5, "connect_timeout": 0.5}})
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    faults, store = endpoint[1], Store(bucket)
    store.commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    faults.failed, faults.seconds, faults.left[method] = 0, 1.5, 2
    store.commit(KEY, UNITS[1], {"tokens": FRAME}, "base")
    assert_frame_equal(store.read(KEY, "tokens"), pl.concat([FRAME, FRAME]))
    assert faults.failed == 2
    assert not faults.left[method]


def test_a_put_that_fails_for_good_shows_no_unit(
    bucket: str, endpoint: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = Store(bucket)
    store.prepare(KEY, "base", UNITS)
    monkeypatch.setattr(type(store.folder.fs), "retries", 1)
    endpoint[1].status = "500 InternalError"
    endpoint[1].left["PUT"] = 1000
    with pytest.raises(OSError, match=r"500|Internal"):
        store.commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    endpoint[1].left.clear()
    assert store.unit_status(KEY, UNITS[0]) == "missing"
    store.commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    assert_frame_equal(store.read(KEY, "tokens"), FRAME)


def test_two_writers_leave_one_whole_unit(bucket: str) -> None:
    stores = [Store(bucket) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda store: [store.commit(KEY, unit, {"tokens": FRAME}, "x") for unit in UNITS], stores))
    found: list[Finding] = []
    assert verify(stores[0], found.append).units == 2
    assert found == []


def test_a_missing_bucket_is_one_line(bucket: str) -> None:
    store = Store("s3://there-is-no-such-bucket/team")
    with pytest.raises(IndexscopeError, match="no such bucket") as caught:
        store.commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    assert "\n" not in str(caught.value)


def test_a_refusal_is_one_line(bucket: str, endpoint: tuple[str, Faults]) -> None:
    store = Store(bucket)
    endpoint[1].status = "403 AccessDenied"
    endpoint[1].left.update(GET=100, HEAD=100, PUT=100)
    with pytest.raises(IndexscopeError, match="is refused") as caught:
        store.commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    assert "planted-secret" not in str(caught.value)


def test_an_endpoint_that_is_not_there_is_an_error_that_may_pass(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fs = fsspec.get_filesystem_class("s3")
    fs.clear_instance_cache()
    monkeypatch.setattr(fs, "retries", 1)
    with pytest.raises(OSError, match="connect") as caught:
        Store(bucket).commit(KEY, UNITS[0], {"tokens": FRAME}, "base")
    assert not isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("url", ["ftp://me:planted@host/store", "https://host/store?X-Amz-Signature=planted"])
def test_a_secret_in_an_address_is_refused_unseen(url: str) -> None:
    with pytest.raises(IndexscopeError, match="holds a secret") as caught:
        Store(url)
    assert "planted" not in str(caught.value)
