"""SVG in fewer bytes: a report of a deep model holds dozens of pictures, and matplotlib writes every mark in full."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

_INHERITED = ("style", "clip-path")
_LEAST = 3
"""Neighbours with the same style that are worth a group of their own."""
_ROTATION = re.compile(r"rotate\(-?0 ")


def compact(element: ElementTree.Element) -> None:
    """Take out groups that say nothing, turns by nothing, and styles that neighbours can share; in place."""
    for child in list(element):
        compact(child)
    children: list[ElementTree.Element] = []
    for child in element:
        if child.tag == "g" and not child.attrib:
            children.extend(child)
        else:
            children.append(child)
    for child in children:
        if _ROTATION.match(child.get("transform", "")):
            del child.attrib["transform"]
        if "d" in child.attrib:
            child.set("d", _path(child.attrib["d"]))
    element[:] = _grouped(children)


def _path(d: str) -> str:
    """Without the spaces around commands, and without a command that only repeats the one before.

    >>> _path("M 1 2 L 3 4 L 5 6 z")
    'M1 2L3 4 5 6z'
    """
    text = re.sub(r"\s*([A-Za-z])\s*", r"\1", d)
    parts = re.split(r"(?=[A-Za-z])", text)
    found: list[str] = []
    last = ""
    for part in parts:
        repeats = part[:1] == last and last in ("L", "C", "Q")
        found.append(f" {part[1:]}" if repeats else part)
        last = part[:1]
    return "".join(found)


def _grouped(children: list[ElementTree.Element]) -> list[ElementTree.Element]:
    found: list[ElementTree.Element] = []
    start = 0
    while start < len(children):
        key = _shared(children[start])
        end = start + 1
        while key and end < len(children) and _shared(children[end]) == key:
            end += 1
        if key and end - start >= _LEAST:
            group = ElementTree.Element("g", dict(key))
            for child in children[start:end]:
                for name, _ in key:
                    del child.attrib[name]
                group.append(child)
            found.append(group)
        else:
            found += children[start:end]
        start = end
    return found


def _shared(element: ElementTree.Element) -> tuple[tuple[str, str], ...]:
    """What a group could say for an element; nothing where that would look different, or others refer to it."""
    if element.tag not in ("path", "use", "text") or "id" in element.attrib or "transform" in element.attrib:
        return ()
    if re.search(r"(^|;)opacity:", element.get("style", "")):
        return ()
    return tuple((name, element.attrib[name]) for name in _INHERITED if name in element.attrib)
