"""How a run ends that is stopped from outside: by Ctrl-C, by a scheduler's termination, or as its terminal goes away.

Python runs a signal's handler between two steps of the main thread, which may be in the middle of an import or a long
computation. What C does at once is to wake the thread here: it tells in one line, silences what would follow, and ends
the process after a moment of grace, in which the main thread unwinds, closes what it has open and tells Prefect. Child
processes watch their parent (`indexscope.flows.child`, `indexscope.tasks.common.step.start_worker`), so none outlives
it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
#: Exit code by signal; systems other than Unix have no SIGHUP.
CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
WHAT = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    CODES[signal.SIGHUP] = TERMINATED
    WHAT[signal.SIGHUP] = "terminal lost"
KEPT = "what is finished is kept; to resume, run the same command again"
#: Seconds for tidying up; what is not done by then is left to the next run, for which the store is always in order.
GRACE = 2.0
#: Interrupts a system call of the main thread. Polars has a SIGINT restart them, and Python would wait on for a lock.
WAKE = getattr(signal, "SIGURG", None)
#: Clears a terminal's line, in which a progress bar may stand, and shows the cursor that the bar had hidden.
CLEAR = b"\r\x1b[2K\x1b[?25h"


class _Listener:
    """Waits for the first signal; one at a time listens in a process."""

    active: _Listener | None = None

    def __init__(self) -> None:
        self.first: int | None = None
        self._told = threading.Event()
        self._unwinding = self._over = False
        self._ears, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        # What is ignored from the start, as under nohup, stays so.
        heard = [number for number in CODES if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        self._before: dict[int, Any] = {number: signal.signal(number, self._unwind) for number in heard}
        if WAKE is not None:
            self._before[WAKE] = signal.signal(WAKE, lambda *_: None)
        self._wakeup = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def settle(self) -> None:
        """From now on no signal disturbs the main thread."""
        self._unwinding = True
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def finish(self) -> None:
        """End the process if a signal came, or comes from now on: nothing is left to unwind."""
        self._over = True
        if self.first is not None:
            self._told.wait(GRACE)
            os._exit(CODES[signal.Signals(self.first)])  # an ordinary exit waits for threads that still compute

    def close(self) -> None:
        """Leave everything as it was."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._mouth.close()

    def _unwind(self, number: int, _: FrameType | None) -> None:
        if self._unwinding:
            return
        self._unwinding = True
        self.first = self.first or number
        if self._over:
            self.finish()
        self._told.wait(GRACE)  # or what is raised here might be told before
        raise KeyboardInterrupt

    def _listen(self) -> None:
        with self._ears:
            while heard := self._ears.recv(1):
                if heard[0] in CODES:
                    self._end(heard[0])
                    return

    def _end(self, heard: int) -> None:
        self.first = self.first or heard
        number = signal.Signals(self.first)
        last = threading.Timer(GRACE, os._exit, [CODES[number]])
        last.daemon = True
        last.start()  # first: a terminal that is held up blocks whoever writes to it
        _tell_and_fall_silent(f"{WHAT[number]}: {KEPT}\n")
        self._told.set()
        if WAKE is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, WAKE)


@contextmanager
def listening(to_the_end: bool = False) -> Iterator[None]:
    """Have signals end the process while the block runs: within seconds, in one line, with an exit code of their own.

    The main thread gets a KeyboardInterrupt, whichever signal it was, and may tidy up. Nested blocks are one.

    Args:
        to_the_end: Listen on after the block, while the interpreter shuts down.
    """
    if _Listener.active is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Listener.active = listener = _Listener()
    try:
        yield
    finally:
        listener.finish()
        if not to_the_end:
            _Listener.active = None
            listener.close()


def settle() -> None:
    """Let no further signal disturb the tidying up."""
    if _Listener.active is not None:
        _Listener.active.settle()


def tell_interrupted() -> None:
    """Say that the run was interrupted, unless a signal did it, which has been told."""
    if _Listener.active is None or _Listener.active.first is None:
        print(f"{WHAT[signal.SIGINT]}: {KEPT}", file=sys.stderr, flush=True)


def _tell_and_fall_silent(line: str) -> None:
    """Write one last line to stderr: neither a traceback nor a progress bar of what is being left may follow."""
    with suppress(OSError):
        last = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.write(last, (CLEAR if os.isatty(last) else b"") + line.encode())
