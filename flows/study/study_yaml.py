"""YAML as a study may hold it: plain values, no key twice, of a size that a person writes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from indexscope import IndexscopeError
from indexscope.errors import shortened
from indexscope.foreign import DEEPEST, reading, words

#: Bytes of a study file. The parser is slow: this takes it two or three seconds.
LONGEST_STUDY = 2**17
#: Values that a study may have once its aliases are written out; nine aliases of nine aliases of … would have billions.
MOST_VALUES = 50_000
MERGE = "tag:yaml.org,2002:merge"
#: What a tag stands for, in words.
KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "timestamp": "a date", "binary": "base64"}
REMEDY = "see `indexscope init` for a commented example"


def parse_yaml(text: str, where: str, remedy: str = REMEDY) -> Any:
    """Read one YAML document.

    Args:
        text: The document.
        where: The file, to which the line is added, or the setting.
        remedy: What the user can do.

    Raises:
        IndexscopeError: It is no YAML, a value is not what its tag says, or it is too large or nested too deeply.
    """
    try:
        with reading(where, remedy, "is not YAML", passing=yaml.MarkedYAMLError):
            return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        place = f"{where}:{error.problem_mark.line + 1}" if error.problem_mark else where
        raise IndexscopeError(place, f"is not YAML: {words(Exception(error.problem or error))}", remedy) from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key may occur once, and every failure of a value is told with its line."""

    def get_single_node(self) -> yaml.Node | None:
        """Compose the document and refuse one that would be too large or too deep once its aliases are written out."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _measured(node, {}, 0)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value; the constructors of tags raise whatever int(), date() and the like do."""
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:
            kind = KINDS.get(node.tag.rpartition(":")[2], node.tag)
            reason = f"{shortened(str(node.value), 40)!r} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a repeated key, of which YAML would silently keep the last."""
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} occurs twice", key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _measured(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Values in a node with its aliases written out.

    Args:
        node: The node.
        known: The number for nodes that were measured; 0 for those that are being measured.
        depth: Nodes around it.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise _refused("a value holds itself", node)
        return known[id(node)]
    if depth > DEEPEST:
        raise _refused("it is nested too deeply", node)
    known[id(node)] = 0
    inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    total = 1 + sum(_measured(part, known, depth + 1) for part in inside if isinstance(part, yaml.Node))
    if total > MOST_VALUES:
        raise _refused(f"it holds more than {MOST_VALUES:,} values", node)
    known[id(node)] = total
    return total


def _refused(reason: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, reason, node.start_mark)
