"""Runs of a served study as the members of its series are completed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from indexscope import IndexscopeError
from indexscope.flows.study.config import Study, text_at
from indexscope.flows.study.load import load_study
from indexscope.flows.study.series import complete
from indexscope.storage.inputs.complete import stamp

#: Seconds from one look at the folder to the next.
EVERY = 10.0


def check_watched(file: Path, overrides: Sequence[str], folder: Path) -> None:
    """Refuse a folder in which no member of a series could appear.

    Raises:
        IndexscopeError: The study has no series with a ``*`` below the folder, or the file is wrong.
    """
    study = load_study(file, overrides, members=False)  # there may be none yet
    if not folder.is_dir():
        raise IndexscopeError(
            f"--watch {folder}", "is no folder", "give the folder that the checkpoints are written to"
        )
    patterns = [text_at(one.models, one.starred) for one in study.series if one.models is not None]
    if not any(Path(pattern).is_relative_to(folder.resolve()) for pattern in patterns):
        reason = "holds no member of a series of the study"
        wanted = f", such as {Path(patterns[0]).parent}" if patterns else "; add a series to the study (docs/series.md)"
        raise IndexscopeError(f"--watch {folder}", reason, f"give the folder that a series' models are in{wanted}")


#: What is known of a complete member: its files, by name, size and time.
Stamp = frozenset[tuple[str, int, int]]


def members(study: Study, title: str) -> dict[str, Stamp]:
    """The complete members of all series, by name.

    Args:
        study: Without what patterns find.
        title: What messages call its file.
    """
    named: dict[str, Stamp] = {model.name: frozenset() for model in study.candidates if model.series}
    return named | {one.model.name: stamp(one.path) for one in complete(study, title)}


class Watch:
    """Looks again and again for members that are new or changed, and runs the study once for all of them.

    Args:
        file: The study file.
        overrides: Settings that go before the file's.
        run: Runs the study, and returns when it has ended.
        say: Told what happens, a line each.
    """

    def __init__(
        self, file: Path, overrides: Sequence[str], run: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self._file, self._overrides, self._run, self._say = file, overrides, run, say
        self._seen: dict[str, Stamp] = {}
        self._told = ""

    def look(self) -> None:
        """Run the study if members are new or changed; what is wrong is told once, and tried again the next time."""
        try:
            found = members(load_study(self._file, self._overrides, gates=False, members=False), str(self._file))
            new = sorted(found.keys() - self._seen.keys())
            changed = sorted(name for name in found if self._seen.get(name, found[name]) != found[name])
            for what, names in (("new", new), ("changed", changed)):
                if names:
                    self._say(f"{what}: {', '.join(names)}")
            if new or changed:
                self._run()
            # One that is being written over is not complete: it is kept in mind as it was.
            self._seen, self._told = self._seen | found, ""
        except IndexscopeError as error:
            if self._told != str(error):
                self._told = str(error)
                self._say(self._told)


@contextmanager
def watching(file: Path, overrides: Sequence[str], deployment: str, every: float = EVERY) -> Iterator[None]:
    """Watch for the length of the block, in a thread of its own; the first look runs what is there already.

    Args:
        file: The study file.
        overrides: Settings that go before the file's.
        deployment: Name of the flow and of its deployment, which runs the study: "flow/deployment".
        every: Seconds from one look to the next.
    """
    ended = threading.Event()
    watch = Watch(file, overrides, lambda: _run(deployment), lambda line: print(line, flush=True))

    def looks() -> None:
        while not ended.wait(every):
            watch.look()

    # Settings of Prefect, the server's address among them, are of a context: without it the thread starts a server.
    threading.Thread(target=copy_context().run, args=(looks,), name="watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _run(deployment: str) -> None:
    """Run a deployment and wait for the end of the run.

    Raises:
        IndexscopeError: The server does not know it, or does not answer.
    """
    import httpx
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        run_deployment(deployment, as_subflow=False)
    except (ObjectNotFound, httpx.HTTPError) as error:
        reason = f"could not be run ({type(error).__name__})"
        raise IndexscopeError(deployment, reason, "it is tried again at the next look") from error
