"""What takes long to import in a worker process, imported once: the fork server does, and workers are forks of it.

Nothing that starts a thread, which a fork would lack with whatever lock it may hold: polars and pyarrow do.
"""

from __future__ import annotations

from indexscope.flows import prefect_setup  # isort: skip - before anything of prefect

import gc
import os
from importlib import import_module

__all__ = ["prefect_setup"]

MODULES = (
    "torch",
    "prefect.task_engine",
    "prefect.task_runners",
    "numba.extending",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
)


def _all() -> None:
    """Import them, as long as there is somebody for whom: the fork server looks only once it is done."""
    parent = os.getppid()
    gc.disable()  # what is imported stays
    for name in MODULES:
        if os.getppid() != parent:
            os._exit(1)
        import_module(name)
    gc.freeze()  # and is looked at by no fork, which would copy it
    gc.enable()


_all()
