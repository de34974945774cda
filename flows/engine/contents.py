"""Whether what the store has was made from what it has now."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from indexscope import IndexscopeError
from indexscope.flows.engine.graph import Node
from indexscope.storage.store.store import StepKey, Store


class Contents:
    """Checksums of what results hold, each looked up once; made anew after anything was computed.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[StepKey, str | None] = {}

    def made_from(self, node: Node) -> str | None:
        """One checksum over all that a result is made from; None without sources, or while they are not there whole."""
        found = [self._content(source.key, source.units) for source in node.made_from]
        known = [content for content in found if content is not None]
        return sha256(" ".join(known).encode()).hexdigest() if known and len(known) == len(found) else None

    def _content(self, key: StepKey, units: Sequence[str]) -> str | None:
        if key not in self._known:
            try:
                self._known[key] = self._store.content(key, units)
            except IndexscopeError:
                self._known[key] = None
        return self._known[key]
