"""What every room of Indexscope shares: the version and the one family of user-facing errors."""

from indexscope.errors import IndexscopeError

__all__ = ["IndexscopeError", "__version__"]
__version__ = "0.1.0"
