"""Run a module as ``python -m`` does, in a process that ends when the one that started it is gone, however it went.

The parent holds the other end of stdin and never writes: the end of the file is the end of the parent. Run this file by
its path, with ``-P``, so that no folder of a user's can be taken for this package.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
import threading
import time

#: Seconds that the module has to end in good order.
GRACE = 0.5
#: New objects after which Python looks for cycles among them.
SELDOM = 50_000


def main() -> None:
    """Run the module that the arguments begin with; the others are its own."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    gc.set_threshold(SELDOM)  # imports of what stays take a fifth less
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
