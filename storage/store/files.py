"""Folders on a disk or in a bucket, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading, words
from indexscope.secrets import refuse_secrets
from indexscope.storage.store.locks import file_lock
from indexscope.storage.store.remote import explained

TEMPORARY = ".tmp"
#: A temporary file older than this belongs to a run that died.
STALE_SECONDS = 24 * 3600
#: Small objects read from a bucket at the same time.
REMOTE_READERS = 32
FULL = {errno.ENOSPC, errno.EDQUOT}
#: What no retry mends.
REFUSED = {
    *FULL,
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO),
}


class Staged(Protocol):
    """Bytes that are safe but not yet visible."""

    def publish(self) -> None:
        """Make the file visible, whole, in one step."""

    def discard(self) -> None:
        """Forget the bytes; nothing was visible."""


@dataclass(frozen=True)
class Folder:
    """A folder of any fsspec filesystem. Names are relative to it and use forward slashes.

    Attributes:
        fs: The filesystem.
        root: The folder's path on it.
        url: What the user wrote, for messages.
    """

    fs: fsspec.AbstractFileSystem
    root: str
    url: str

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on this machine's disk."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Path of a file on the filesystem."""
        return f"{self.root}/{name}" if name else self.root

    def child(self, name: str) -> Folder:
        """A folder inside this one."""
        return Folder(self.fs, self.path(name), f"{self.url.rstrip('/')}/{name}")

    def read(self, name: str) -> bytes:
        """Read a whole file; FileNotFoundError if there is none."""
        with self.answers():
            data: bytes = self.fs.cat_file(self.path(name))
        return data

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Read small files; None for one that is not there. A bucket answers slowly: it is asked for many at once."""
        if self.is_local:
            return [self._found(name) for name in names]
        with ThreadPoolExecutor(REMOTE_READERS) as pool:
            return list(pool.map(self._found, names))

    def _found(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading; FileNotFoundError if there is none."""
        with self.answers():
            file: IO[bytes] = self.fs.open(self.path(name), "rb")
        return file

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is no such file."""
        self.fs.invalidate_cache()
        with self.answers(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            info = self.fs.info(self.path(name))
            return int(info["size"]) if info["type"] == "file" else None
        return None

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.size(name) is not None

    def is_there(self) -> bool:
        """Whether there is such a folder; in a bucket, whether anything lies below it."""
        self.fs.invalidate_cache()
        with self.answers():
            return bool(self.fs.isdir(self.root))

    def sizes(self, name: str = "") -> dict[str, int]:
        """Bytes of every visible file below a folder, by name relative to this folder; empty if there is none."""
        self.fs.invalidate_cache()
        start = len(self.root) + 1
        with self.answers():
            if self.is_local:
                # fsspec takes a folder that cannot be listed for an empty one.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(name)):
                    pass
            found: dict[str, dict[str, Any]] = self.fs.find(self.path(name), detail=True)
        # Where the folder is a file, that file itself is found, and its name is empty.
        sizes = {path[start:]: int(info["size"]) for path, info in found.items() if path[start:]}
        return {inside: size for inside, size in sorted(sizes.items()) if not inside.rpartition("/")[2].startswith(".")}

    def children(self, name: str = "") -> dict[str, bool]:
        """Names of what lies directly in a folder, and whether each is a folder itself; empty if there is none."""
        self.fs.invalidate_cache()
        found: list[dict[str, Any]] = []
        with self.answers(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = self.fs.ls(self.path(name), detail=True)
        inside = ((str(info["name"]).rstrip("/"), info["type"] == "directory") for info in found)
        names = {path.rpartition("/")[2]: is_folder for path, is_folder in inside if path != self.path(name)}
        return {one: is_folder for one, is_folder in sorted(names.items()) if one and not one.startswith(".")}

    def modified(self, name: str) -> datetime | None:
        """When a file was last written, in UTC; None where the filesystem does not say."""
        stamp = None
        with self.answers(), contextlib.suppress(FileNotFoundError, NotImplementedError, KeyError):
            stamp = self.fs.modified(self.path(name))
        if not isinstance(stamp, datetime):
            return None
        return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that a reader sees the old one or the new one, whole, whenever the machine stops."""
        staged = self.stage(name, data)
        try:
            with self.refusals():
                staged.publish()
        except BaseException:
            staged.discard()
            raise

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write a large file piece by piece: others see the old one until the block ends without an error.

        One writer at a time: what one that died left is overwritten by the next.
        """
        into = self._growing(Path(self.path(name))) if self.is_local else self._uploaded(name)
        with self.refusals(), into as file:
            yield file

    @contextlib.contextmanager
    def _growing(self, target: Path) -> Iterator[IO[bytes]]:
        make_folders(target.parent)
        temporary = target.with_name(f".{target.name}{TEMPORARY}")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    @contextlib.contextmanager
    def _uploaded(self, name: str) -> Iterator[IO[bytes]]:
        file = self.fs.open(self.path(name), "wb")  # object stores show an object once it is closed
        try:
            yield file
        except BaseException:
            with contextlib.suppress(Exception):
                file.discard()
                file.closed = True  # or it would close itself
            raise
        file.close()

    def stage(self, name: str, data: bytes) -> Staged:
        """Bring bytes into safety beside their final place without showing them."""
        with self.refusals():
            if self.is_local:
                return _LocalStaged(Path(self.path(name)), data)
            return _RemoteStaged(self, name, data)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with self.refusals(), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    def remove_unfinished(self, name: str) -> None:
        """Remove a file that `writing` wrote, and what a writer of it that died left."""
        self.remove(name)
        if self.is_local:
            folder, _, last = name.rpartition("/")
            with self.refusals():
                Path(self.path(folder), f".{last}{TEMPORARY}").unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others are in it, or it is gone
                    Path(self.path(folder)).rmdir()

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other writers of this machine out of a local folder; a bucket has no locks."""
        with contextlib.ExitStack() as held:
            if self.is_local:
                path = Path(self.path(name))
                with self.refusals():
                    make_folders(path.parent)
                    held.enter_context(file_lock(path))
            yield

    def remove_stale(self) -> None:
        """Remove what writers that died left below a local folder."""
        if not self.is_local:
            return
        oldest = time.time() - STALE_SECONDS
        with self.answers():
            for path in Path(self.root).rglob(f".*{TEMPORARY}"):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()

    @contextlib.contextmanager
    def answers(self) -> Iterator[None]:
        """Turn what no retry can mend, when something is read, into one line.

        A missing file stays a FileNotFoundError, and what may pass stays an OSError.
        """
        try:
            yield
        except (IndexscopeError, FileNotFoundError):
            raise
        except Exception as error:
            if not self.is_local:
                raise explained(error, self.url) from error
            if _may_pass(error):
                raise
            remedy = "give a folder that you may read"
            raise IndexscopeError(self.url, f"cannot be read ({words(error)})", remedy) from error

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Turn what no retry can mend, when something is written, into one line; what may pass stays an OSError."""
        try:
            yield
        except IndexscopeError:
            raise
        except Exception as error:
            if not self.is_local:
                raise explained(error, self.url) from error
            # Folders are made before files, so a path that is not there is one where none can be made, as in /proc.
            if _may_pass(error) and not isinstance(error, FileNotFoundError):
                raise
            full = "free some space and run the same command again: what was committed is kept"
            is_full = isinstance(error, OSError) and error.errno in FULL
            remedy = full if is_full else "choose a folder that you may write to"
            raise IndexscopeError(self.url, f"cannot be written ({words(error)})", remedy) from error


def _may_pass(error: Exception) -> bool:
    """Whether a local filesystem may answer otherwise the next time; a path that Python refuses is a ValueError."""
    return not isinstance(error, ValueError) and (not isinstance(error, OSError) or error.errno not in REFUSED)


def open_store(url: str | os.PathLike[str]) -> Folder:
    """Open a folder by path or fsspec URL (memory://, s3://, gs://, …); nothing is created.

    Raises:
        IndexscopeError: The protocol is unknown, or its package is not installed.
    """
    text = os.fspath(url)
    if not text.strip():
        raise IndexscopeError("store", "is empty", "give a folder or a URL such as s3://bucket/folder")
    refuse_secrets(text, "store")
    with reading(text, "install that filesystem or use a local folder", "cannot be opened"):
        fs, root = url_to_fs(text)
    return Folder(fs, root.rstrip("/"), text)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, and make sure that they outlive a crash."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


class _LocalStaged:
    def __init__(self, target: Path, data: bytes) -> None:
        make_folders(target.parent)
        self._target = target
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}{TEMPORARY}")
        try:
            with self._temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        os.replace(self._temporary, self._target)
        _sync_folder(self._target.parent)

    def discard(self) -> None:
        self._temporary.unlink(missing_ok=True)


class _RemoteStaged:
    def __init__(self, folder: Folder, name: str, data: bytes) -> None:
        self._folder = folder
        self._path = folder.path(name)
        self._data = data

    def publish(self) -> None:
        # One put: object stores show an object whole or not at all.
        with self._folder.refusals():
            try:
                self._folder.fs.pipe_file(self._path, self._data)
            except FileNotFoundError as error:
                remedy = "create the bucket, or correct its name"
                raise IndexscopeError(self._folder.url, "cannot be written: there is no such bucket", remedy) from error

    def discard(self) -> None:
        self._data = b""


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Systems that cannot open a folder do not need it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
