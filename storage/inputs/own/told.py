"""What a model of the user's own says of itself, kept in the store so that a finished study loads no model again.

``_models/<fingerprint>.json``; whatever is not whole is not there, and the model is asked again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from indexscope.errors import IndexscopeError
from indexscope.foreign import json_object
from indexscope.storage.inputs.checkpoints import CheckpointInfo
from indexscope.storage.store.json_types import is_sealed, sealed_json
from indexscope.storage.store.store import Store

MODELS = "_models"
#: Raise it when models would be told of otherwise.
FORMAT = 2


def remembered(store: Store, mark: str) -> CheckpointInfo | None:
    """What a model of this fingerprint said of itself."""
    with suppress(IndexscopeError, OSError):
        data = store.folder.read(_file(mark))
        content = json_object(data)
        if content is not None and is_sealed(content, data) and content.get("format") == FORMAT:
            told = content["told"]
            return CheckpointInfo(**{**told, "dtypes": tuple(told["dtypes"])})
    return None


def remember(store: Store, mark: str, told: CheckpointInfo) -> None:
    """Keep it; a store that cannot be written goes without."""
    with suppress(IndexscopeError, OSError):
        content = {**asdict(told), "dtypes": list(told.dtypes)}
        store.folder.write(_file(mark), sealed_json({"format": FORMAT, "told": content}))


def _file(mark: str) -> str:
    return f"{MODELS}/{mark}.json"
