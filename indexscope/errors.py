"""The one family of errors that a user is meant to read."""

from __future__ import annotations

from indexscope.redaction import redacted

#: Characters of a path or a setting that a message shows; a system's longest path has 4096.
LONGEST_PLACE = 500
#: Characters of what is wrong with it, which may quote a file.
LONGEST_REASON = 1000


class IndexscopeError(Exception):
    """Something a user can put right: what is wrong, where, and what to do about it.

    Args:
        where: The file, setting or module that is at fault.
        reason: What is wrong with it.
        remedy: What the user can do.
    """

    exit_code = 2

    def __init__(self, where: object, reason: str, remedy: str) -> None:
        self.where = shortened(one_line(where)) or repr(str(where))
        self.reason = shortened(one_line(reason), LONGEST_REASON)
        self.remedy = one_line(remedy)
        super().__init__(f"{self.where}: {self.reason}; {self.remedy}")

    def __reduce__(self) -> tuple[type[IndexscopeError], tuple[str, str, str]]:
        """Rebuild from the three parts, so that the error crosses process borders whole."""
        return type(self), (self.where, self.reason, self.remedy)


def one_line(text: object) -> str:
    """Fold white space and drop control characters and secrets, since names and messages come from foreign files."""
    folded = redacted(" ".join(str(text).split()))
    return "".join(character for character in folded if character.isprintable())


def shortened(text: str, longest: int = LONGEST_PLACE) -> str:
    """Leave out the middle of a text that is too long to be read.

    >>> shortened("a" * 9 + "z" * 9, 7)
    'aaa…zzz'
    """
    kept = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:kept]}…{text[-kept:]}"


#: What torch and the libraries below it say, in RuntimeErrors, when memory is not to be had.
_COMPLAINTS = (
    *("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory"),
    *("bad_alloc", "alloc_failed"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a device.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _COMPLAINTS)
