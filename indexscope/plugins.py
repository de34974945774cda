"""Metrics of one's own: two decorators for functions in a file that a study names under ``plugins`` (docs/plugins.md).

This module only records what is declared; it computes nothing and imports nothing of the project but its errors.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import PurePath
from threading import Lock
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args

from indexscope.errors import IndexscopeError, is_out_of_memory
from indexscope.foreign import read_file

Function = TypeVar("Function", bound=Callable[..., Any])
Better = Literal["higher", "lower", "neither"]
Per = Literal["head", "query"]
Queries = Literal["all", "in_effect"]
#: Feature tables that a metric may read.
TABLES = ("samples", "attention", "heads", "positions", "tokens", "indexer", "scores")
#: Tables that features are stored in: those per head, and those per query.
PER_HEAD, PER_QUERY = "plugin_attention", "plugin_indexer"
#: Names that a column of the tables of features has already.
TAKEN = {"sample", "layer", "head", "bucket", "value", "weight", "queries"}
REMEDY = "docs/plugins.md has an example"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_MARK = "__indexscope_metric__"
#: What the file that is being loaded has declared; guarded by the lock.
_recorded_now: list[Plugin] = []
_GUIDE = "mend the function, or take the file out of the study's `plugins`"


@dataclass(frozen=True)
class PluginFile:
    """A file of plug-ins as it was read; tasks get its content, so that they run what the key was made of.

    Attributes:
        path: Where it was, for messages.
        content: Its bytes.
    """

    path: str
    content: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return PurePath(self.path).name

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
        return sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Plugin:
    """A function that a user declared to be a metric.

    Attributes:
        name: The function's name, which is the metric's.
        unit: In which unit.
        meaning: One plain line.
        better: Which direction is better, where one is.
        function: Takes ``AttentionRows`` (a feature), or a frame of ``table`` (a metric).
        table: Feature table that a metric reads; "" for a feature.
        per: Whether a feature has a value for each attention head and query, or for each query.
        queries: Whether a feature is of all queries, or of those with more eligible keys than the indexer selects.
        file: Name of its file.
        digest: SHA-256 of the file.
    """

    name: str
    unit: str
    meaning: str
    better: Better
    function: Callable[[Any], Any]
    table: str = ""
    per: Per = "head"
    queries: Queries = "all"
    file: str = ""
    digest: str = ""

    @property
    def is_feature(self) -> bool:
        """Whether it looks at attention, and so needs a run of the model."""
        return not self.table

    @property
    def origin(self) -> str:
        """The stored table that the metric is computed from."""
        return self.table or (PER_HEAD if self.per == "head" else PER_QUERY)

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.file}: {self.name}"

    def refused(self, reason: str, remedy: str = _GUIDE) -> IndexscopeError:
        """The error that says what is wrong with it."""
        return IndexscopeError(self.where, reason, remedy)

    def __call__(self, argument: object) -> Any:
        """Call the function.

        Raises:
            IndexscopeError: It raised something; memory that ran out is let through.
        """
        try:
            return self.function(argument)
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                raise
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.name == self.name]
            place = f" in line {lines[-1]}" if lines else ""
            raise self.refused(f"raised {type(error).__name__}{place}: {error}") from error


def feature(
    *, unit: str, meaning: str, better: Better = "neither", per: Per = "head", queries: Queries = "all"
) -> Callable[[Function], Function]:
    """Declare a feature of attention, measured while the model runs.

    The function takes `indexscope.analysis.features.rows.AttentionRows`, and must leave it as it is. It returns a
    tensor [batch, heads, queries], or [batch, queries] for ``per="query"``; NaN where it is not defined. Its mean over
    queries is the metric.

    Args:
        unit: The unit, such as share, nats, keys or tokens.
        meaning: One plain line for the report.
        better: higher, lower or neither.
        per: "head", or "query" for what is the same for all heads.
        queries: "all", or "in_effect": only queries with more eligible keys than the indexer selects.
    """
    _check("per", per, get_args(Per))
    _check("queries", queries, get_args(Queries))
    return _recorded(unit, meaning, better, per=per, queries=queries)


def metric(*, table: str, unit: str, meaning: str, better: Better = "neither") -> Callable[[Function], Function]:
    """Declare a metric of a stored feature table; it needs no model.

    The function takes the rows of one shard of the table, a polars frame, and returns a frame with the columns
    ``sample``, ``value`` and ``weight``, and ``layer`` if there is a value for each layer. Samples never cross shards.
    Rows may repeat a sample and layer: the metric is sum(value x weight) / sum(weight). Null or NaN is "not known".

    Args:
        table: A feature table of docs/storage.md, such as attention.
        unit: The unit, such as share, nats, keys or tokens.
        meaning: One plain line for the report.
        better: higher, lower or neither.
    """
    _check("table", table, TABLES)
    return _recorded(unit, meaning, better, table=table)


def _recorded(unit: str, meaning: str, better: Better, **more: Any) -> Callable[[Function], Function]:
    _check("better", better, get_args(Better))
    for name, text in {"unit": unit, "meaning": meaning}.items():
        if not isinstance(text, str) or not text.strip() or not text.isprintable():
            raise ValueError(f"{name} must be a line of text")

    def record(function: Function) -> Function:
        name = function.__name__
        if not _NAME.fullmatch(name) or name in TAKEN or name.endswith(("_queries", "_weight")):
            raise ValueError(f"a metric cannot be called {name!r}")
        one = Plugin(name, unit.strip(), meaning.strip(), better, function, **more)
        setattr(function, _MARK, one)
        _recorded_now.append(one)
        return function

    return record


def _check(what: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}, not {value!r}")


def read(path: str) -> PluginFile:
    """Read a file of metrics.

    Raises:
        IndexscopeError: It cannot be read.
    """
    remedy = "give a Python file that declares metrics"
    try:
        return PluginFile(path, read_file(path, remedy, passing=FileNotFoundError))
    except FileNotFoundError:
        raise IndexscopeError(path, "there is no such file", remedy) from None


_loaded: dict[tuple[str, str], tuple[Plugin, ...]] = {}
_lock = Lock()


def load(file: PluginFile) -> tuple[Plugin, ...]:
    """Run a file and return what it declares, in its order; the same content is run once a process.

    Raises:
        IndexscopeError: It does not run, or declares nothing.
    """
    with _lock:
        known = file.path, file.digest
        if known not in _loaded:
            _loaded[known] = _declared_in(file)
        return _loaded[known]


def _declared_in(file: PluginFile) -> tuple[Plugin, ...]:
    module = ModuleType(f"_indexscope_plugins_{file.digest[:16]}")
    module.__file__ = file.path
    _recorded_now.clear()
    sys.modules[module.__name__] = module  # dataclasses and annotations look themselves up there
    try:
        exec(compile(file.content, file.path, "exec"), module.__dict__)
    except SyntaxError as error:
        where = f"{file.path}:{error.lineno}" if error.lineno else file.path
        raise IndexscopeError(where, f"is not Python: {error.msg}", REMEDY) from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file.path]
        where = f"{file.path}:{lines[-1]}" if lines else file.path
        raise IndexscopeError(where, f"raised {type(error).__name__}: {error}", REMEDY) from error
    found = [getattr(value, _MARK, None) for value in module.__dict__.values()]
    own = [one for one in found if isinstance(one, Plugin) and one.function.__module__ == module.__name__]
    if not own:
        raise IndexscopeError(file.path, "declares no feature and no metric", REMEDY)
    names = [one.name for one in _recorded_now if one.function.__module__ == module.__name__]
    for one in own:
        if names.count(one.name) > 1:
            raise IndexscopeError(f"{file.path}: {one.name}", "is declared twice", "give one of the two another name")
    return tuple(replace(one, file=file.name, digest=file.digest) for one in {one.name: one for one in own}.values())
