"""What is asked of a worker on another machine: its versions, and whether it sees the store, Prefect and the models."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from indexscope import IndexscopeError
from indexscope.storage.inputs.fingerprints import FingerprintMode
from indexscope.storage.store.files import open_store
from indexscope.tasks.common.models import away_from_home
from indexscope.tasks.common.step import start_worker

#: Seconds that Prefect's server has to answer a worker.
PATIENCE = 10.0
#: What messages call the cluster.
NAME = "ray cluster"
Versions = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Setting:
    """What a worker is told with every unit.

    Attributes:
        cores: Cores that are its own.
        fingerprint: How much of a checkpoint it hashes before it loads it.
        versions: Versions of the driver, by package.
        logging: PREFECT_LOGGING_LEVEL of the driver.
    """

    cores: int
    fingerprint: FingerprintMode
    versions: Mapping[str, str]
    logging: str = ""


def settle_in(setting: Setting) -> None:
    """Set up the process of a worker, once.

    Ray ends processes that are idle for a second, beyond one for each core of a node, and with them the model that was
    loaded. It spares a process that owns an object.

    Raises:
        IndexscopeError: Something is installed in another version here; a node may have joined the cluster late.
    """
    global _settled, _owned
    if _settled != setting:
        import ray

        _owned = _owned or ray.put(b"")
        refuse_others(tell_versions()(), setting.versions)
        start_worker(setting.logging == "WARNING", watched=False)  # Ray ends it
        away_from_home(setting.cores, setting.fingerprint)
        _settled = setting


_settled: Setting | None = None
_owned: object = None


def tell_versions() -> Callable[[], Versions]:
    """A function that tells the machine, and the versions of what determines results; it travels as it is.

    It imports nothing of Indexscope, which a worker may lack. Builds of one version for other devices are the same.
    """

    def versions() -> Versions:
        import socket
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for package in ("indexscope", "torch", "transformers"):
            try:
                found[package] = version(package).partition("+")[0]
            except PackageNotFoundError:
                found[package] = "not installed"
        return socket.gethostname(), found

    return versions


def refuse_others(told: Versions, expected: Mapping[str, str]) -> None:
    """Refuse a machine with other versions than those of the driver.

    Raises:
        IndexscopeError: It names the first.
    """
    machine, found = told
    for package, version in expected.items():
        if found.get(package) != version:
            reason = f"has {package} {found.get(package)}, and the machine that started the study has {version}"
            raise IndexscopeError(f"{NAME}: {machine}", reason, "install the same versions on every machine")


def look(setting: Setting, store: str, token: str, server: str) -> IndexscopeError | None:
    """What a worker lacks: the store, in which there is a token, or Prefect's server; an empty address is not tried."""
    import httpx

    settle_in(setting)
    here = socket.gethostname()
    try:
        if store and not open_store(store).exists(token):
            remedy = "give a bucket, or a folder that all machines have in common under one path (docs/clusters.md)"
            return IndexscopeError(store, f"is not the same folder on {here}, a worker of the cluster", remedy)
    except IndexscopeError as error:
        return IndexscopeError(f"{error.where} on {here}", error.reason, error.remedy)
    except OSError as error:
        return IndexscopeError(f"{store} on {here}", f"cannot be read ({error})", "see docs/clusters.md")
    if server:
        try:
            httpx.get(f"{server.rstrip('/')}/health", timeout=PATIENCE, verify=False).raise_for_status()
        except httpx.HTTPError as error:
            reason = f"cannot be reached from {here}, a worker of the cluster ({error})"
            remedy = "set it to a server that every machine reaches: `prefect server start --host 0.0.0.0`"
            return IndexscopeError(f"PREFECT_API_URL={server}", reason, remedy)
    return None
