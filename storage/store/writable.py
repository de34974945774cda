"""Whether a folder can be written into, found out ahead of the work whose result is to go there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from indexscope.errors import IndexscopeError
from indexscope.storage.store.files import open_store

REMEDY = "choose a folder that you may write to"


def refuse_unwritable(url: str | os.PathLike[str], where: str, remedy: str = REMEDY) -> None:
    """Refuse a folder that nothing could be written into; nothing of the trial is left behind.

    Only trying tells: permissions do not bind everybody, and a disk may be read-only. Of a bucket only the address is
    looked at, since asking it takes time.

    Args:
        url: Folder or URL; the folder need not exist.
        where: The setting that names it.
        remedy: What the user can do.

    Raises:
        IndexscopeError: It cannot be written, or the address is of no known kind.
    """
    target = open_store(url)
    if not target.is_local:
        return
    nearest = Path(target.root or "/")
    try:
        while not os.path.lexists(nearest):
            nearest = nearest.parent
        if not nearest.is_dir():
            raise IndexscopeError(f"{where}: {url}", f"cannot be written ({nearest} is not a folder)", remedy)
        with tempfile.TemporaryFile(dir=nearest):  # has no name, so not even a kill leaves it behind
            pass
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise IndexscopeError(f"{where}: {url}", reason, remedy) from error
