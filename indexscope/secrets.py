"""Addresses with secrets in them are refused: what a study is given ends up in its report and in Prefect's records."""

from __future__ import annotations

from indexscope.errors import IndexscopeError
from indexscope.redaction import redacted


def refuse_secrets(url: str, where: str) -> None:
    """Refuse an address that holds a login or a signature.

    Args:
        url: Any path or URL.
        where: The setting, for the message.

    Raises:
        IndexscopeError: It holds one; the message does not show it.
    """
    if redacted(url) != url:
        remedy = "give credentials by environment variables or fsspec's configuration (docs/object-stores.md)"
        raise IndexscopeError(where, f"holds a secret in its address ({url})", remedy)
