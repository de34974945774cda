"""Names on the Hugging Face hub, downloaded once into its cache and found there without a network."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from indexscope.errors import IndexscopeError

Kind = Literal["model", "dataset"]
LONGEST_NAME = 300
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


@dataclass(frozen=True)
class HubDataset:
    """One revision of a dataset on the hub, of which files are fetched one by one as they are needed.

    Attributes:
        name: As the user wrote it.
        repository: `owner/name`.
        revision: The commit, so that all files belong together.
        files: Names of its files.
    """

    name: str
    repository: str
    revision: str
    files: tuple[str, ...]

    def fetch(self, file: str) -> Path:
        """Download one file, or take it from the cache.

        Raises:
            IndexscopeError: It cannot be had.
        """
        with _answers(self.name, "dataset"):
            return Path(hf_hub_download(self.repository, file, repo_type="dataset", revision=self.revision))


def is_hub_name(name: str) -> bool:
    """Whether a text can be a hub name: `name`, `owner/name`, either with `@revision`.

    >>> is_hub_name("owner/model"), is_hub_name("owner/model@v1"), is_hub_name("../model"), is_hub_name("a/b/c")
    (True, True, False, False)
    """
    return len(name) <= LONGEST_NAME and NAME.fullmatch(name) is not None


def download_model(name: str, patterns: Sequence[str]) -> Path:
    """Fetch the files of a model that match the patterns, or take them from the cache.

    Args:
        name: `owner/name`, or `owner/name@revision`.
        patterns: Which files are wanted; nothing else is fetched.

    Raises:
        IndexscopeError: The hub has no such name, access is refused, or there is no network and nothing cached.
    """
    repository, revision = _parts(name)
    with _answers(name, "model"):
        folder = snapshot_download(repository, repo_type="model", revision=revision, allow_patterns=list(patterns))
        return Path(folder)


def find_dataset(name: str) -> HubDataset:
    """List a dataset without fetching any of it; without a network, list what the cache holds.

    Raises:
        IndexscopeError: The hub has no such name, access is refused, or there is no network and nothing cached.
    """
    repository, revision = _parts(name)
    with _answers(name, "dataset"):
        try:
            info = HfApi().dataset_info(repository, revision=revision)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except (HTTPError, ConnectionError):
            return _cached(name, repository, revision)
        files = tuple(sibling.rfilename for sibling in info.siblings or ())
        return HubDataset(name, repository, str(info.sha), files)


def _cached(name: str, repository: str, revision: str | None) -> HubDataset:
    found = snapshot_download(repository, repo_type="dataset", revision=revision, local_files_only=True)
    folder = Path(found)
    files = [Path(here) / file for here, _, files in os.walk(folder) for file in files]
    return HubDataset(name, repository, folder.name, tuple(path.relative_to(folder).as_posix() for path in files))


def _parts(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.partition("@")
    return repository, revision or None


@contextlib.contextmanager
def _answers(name: str, kind: Kind) -> Iterator[None]:
    """Turn every refusal of the hub, and its absence, into one line."""
    try:
        yield
    except HFValidationError as error:
        raise IndexscopeError(name, f"is no file, no folder and no hub {kind}", "check the name") from error
    except GatedRepoError as error:
        remedy = "ask for access on its page, then log in with `hf auth login`"
        raise IndexscopeError(name, "is a gated hub repository", remedy) from error
    except RevisionNotFoundError as error:
        raise IndexscopeError(name, "has no such revision on the hub", "check the part after the @") from error
    except RepositoryNotFoundError as error:
        remedy = "check the spelling, or log in with `hf auth login` if it is private"
        raise IndexscopeError(name, f"is no local file or folder and no public hub {kind}", remedy) from error
    except (LocalEntryNotFoundError, HTTPError, ConnectionError) as error:
        reason = "is no local file or folder, and the Hugging Face hub cannot be reached"
        raise IndexscopeError(name, reason, "check the path, or download it where there is a network") from error
