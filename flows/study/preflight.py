"""What every run needs, checked before the first model runs: folders that can be written, and Prefect."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import redirect_stderr
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.flows.study.config import Study, report_folder
from indexscope.storage.store.writable import refuse_unwritable

if TYPE_CHECKING:
    from indexscope.flows.study.plan import Plan

#: Seconds that a server has to connect, and again to answer.
PATIENCE = 15.0
URL = "PREFECT_API_URL"
#: Tokens of a dataset that are worth a second process, whatever the model.
MUCH = 8192


def check_folders(study: Study, command: str) -> None:
    """Refuse a report or a store that could not be written.

    A store that holds something may be read-only: it may hold all that is needed (`check_store`).

    Raises:
        IndexscopeError: One of them cannot be written.
    """
    if command in ("study", "report"):
        refuse_unwritable(report_folder(study), "report")
    try:
        refuse_unwritable(study.store, "store")
    except IndexscopeError:
        if not os.path.isdir(study.store) or not os.listdir(study.store):
            raise


def check_store(plan: Plan, command: str) -> None:
    """Refuse a read-only store that lacks something which the command makes.

    Raises:
        IndexscopeError: It lacks something and cannot be written.
    """
    from indexscope.flows.study.status import is_complete

    try:
        refuse_unwritable(plan.study.store, "store")
    except IndexscopeError:
        if not is_complete(plan, command):
            raise


def has_much_to_make(study: Study, command: str) -> bool:
    """Whether a command surely has enough to make for worker processes, as far as its settings alone can tell.

    What it really has is known once the plan is made, which takes as long as such a process needs to start.
    """
    if command not in ("study", "extract") or "://" in study.store or not study.measured:
        return False
    wanted, data = study.runner, study.dataset
    alone = wanted.kind in ("threads", "ray") or wanted.workers == 1 or study.extract.device.startswith("cuda")
    new = not os.path.isdir(study.store) or not os.listdir(study.store)
    few = data.samples is not None and isinstance(data.max_length, int) and data.samples * data.max_length < MUCH
    return new and not alone and not few


def check_run(*studies: Study) -> None:
    """Refuse to begin what could not be carried through: without the runner that a study names, or without Prefect.

    Every command that runs something asks it, once what it runs is known.

    Args:
        studies: What is to be run; none where no study is.

    Raises:
        IndexscopeError: A runner lacks packages, its workers would not find the store, or Prefect cannot be used.
    """
    for study in studies:
        _check_runner(study)
    check_prefect()


def _check_runner(study: Study) -> None:
    if study.runner.kind != "ray":
        return
    if not all(find_spec(package) for package in ("ray", "prefect_ray")):
        raise IndexscopeError("runner.kind", "ray needs packages that are missing", "pip install 'indexscope[ray]'")
    if study.store.startswith("memory:"):
        remedy = "give a bucket, or a folder that all machines have in common (docs/clusters.md)"
        raise IndexscopeError(study.store, "is this process's memory, which no worker of a cluster sees", remedy)


def check_prefect() -> None:
    """Refuse settings with which Prefect would fail, or try again and again, once the run has begun.

    Raises:
        IndexscopeError: The server of the settings does not answer as one, or there is none and a temporary one has no
            folder to keep its database in.
    """
    settings = _settings()
    if settings.api.url:
        _check_server(settings.api.url.rstrip("/"))
    elif settings.server.ephemeral.enabled:
        refuse_unwritable(settings.home, "PREFECT_HOME", "set PREFECT_HOME to a folder that you may write to")
    else:
        reason = "is not set, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE rules out a temporary server"
        raise IndexscopeError(URL, reason, "set it to the address of a Prefect server")


def _settings() -> Any:
    """Prefect's settings: environment, profile and files together."""
    from indexscope.flows import prefect_setup  # noqa: F401 - before prefect

    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # this program has words of its own for it
            warnings.simplefilter("ignore")
            from prefect.settings import get_current_settings

            return get_current_settings()
    except ImportError:
        raise
    except Exception as error:
        remedy = "correct the PREFECT_ variables of the environment, or profiles.toml in PREFECT_HOME"
        raise IndexscopeError("Prefect's settings", f"cannot be read ({error})", remedy) from error


def _check_server(url: str) -> None:
    """Ask a server as Prefect's own client does, with its keys and certificates, but once: a busy one takes seconds."""
    import httpx
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    where = f"{URL}={url}"
    remedy = f"start that server, correct the address, or unset {URL} to have a temporary server"
    try:
        httpx.get(f"{url}/health", timeout=PATIENCE, verify=False)  # tells of nobody there before a client is imported
        from prefect.client.base import ServerType
        from prefect.client.orchestration import get_client

        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            client = get_client(sync_client=True, httpx_settings={"timeout": PATIENCE})
            if failure := client.api_healthcheck():
                raise failure
            if client.server_type is not ServerType.CLOUD:
                client.api_version()  # a server tells of its health without a key, and who answers may be anything
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise IndexscopeError(where, "is no address", f"give http://HOST:PORT/api, or unset {URL}") from None
    except httpx.TimeoutException:
        raise IndexscopeError(where, f"does not answer within {PATIENCE:g} s", remedy) from None
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            keys = "check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
            raise IndexscopeError(where, f"does not let you in (it answers {status})", keys) from None
        reason = f"is not the API of a Prefect server that works (it answers {status})"
        raise IndexscopeError(where, reason, remedy) from None
    except (httpx.HTTPError, OSError) as error:
        raise IndexscopeError(where, f"cannot be reached ({error})", remedy) from None
    except ValueError:
        raise IndexscopeError(where, "is not the API of a Prefect server", remedy) from None
