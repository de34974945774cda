"""What a bucket's errors mean: those that no retry mends become one line, those that may pass become OSError."""

from __future__ import annotations

import errno

from indexscope.errors import IndexscopeError

#: Names of exceptions of the libraries below fsspec that say that nobody is logged in.
NOBODY = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
#: Packages whose exceptions, when they are none of Python's own, speak of the network.
NETWORK = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "adlfs", "azure"}


def explained(error: Exception, url: str) -> Exception:
    """The error to raise instead of one that a remote filesystem raised.

    Passing failures (5xx, throttling, time-outs) have been retried by the filesystem itself by then; as OSError, the
    task that met them is tried again as well.

    Args:
        error: What was raised.
        url: The folder, for the message.
    """
    if isinstance(error, PermissionError):
        reason = f"is refused ({_text(error)})"
        return IndexscopeError(url, reason, "check the credentials and what they may do (docs/object-stores.md)")
    if type(error).__name__ in NOBODY:
        remedy = "give credentials by environment variables such as AWS_ACCESS_KEY_ID (docs/object-stores.md)"
        return IndexscopeError(url, f"cannot be reached ({_text(error)})", remedy)
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in NETWORK:
        return error
    return OSError(errno.EIO, f"{type(error).__name__}: {_text(error)}", url)


def _text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
