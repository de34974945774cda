"""Secrets in addresses: shown as asterisks wherever text reaches a user."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_PARAMETER = re.compile(
    r"(?<=[?&])([^=&#\s]*(?:token|sig|signature|secret|password|credential|key)[^=&#\s]*)=[^&#\s]+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """Hide logins before a host, and query parameters that are named like secrets.

    >>> redacted("ftp://me:secret@host/store and https://host/a?X-Amz-Signature=0f&part=1")
    'ftp://***@host/store and https://host/a?X-Amz-Signature=***&part=1'
    """
    return _PARAMETER.sub(r"\1=***", _LOGIN.sub("***@", text))
