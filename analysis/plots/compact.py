"""SVG in fewer bytes: a report of a deep model holds dozens of pictures, and matplotlib writes every mark in full."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from PIL import Image

_PNG = "data:image/png;base64,"
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


def small_image(href: str) -> str:
    """An embedded PNG with a palette where its colours fit one: the same picture in a quarter of the bytes."""
    if not href.startswith(_PNG):
        return href
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(href[len(_PNG) :]))).convert("RGBA"))
    colours, at = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) > 256:
        return href
    image = Image.fromarray(at.reshape(pixels.shape[:2]).astype(np.uint8))
    image.putpalette(colours[:, :3].tobytes(), "RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return _PNG + base64.b64encode(buffer.getvalue()).decode()


def _path(d: str) -> str:
    """Without the spaces around commands, straight lines across or up as such, and no command that only repeats.

    >>> _path("M 1 2 L 3 4 L 5 6 z")
    'M1 2L3 4 5 6z'
    >>> _path("M 1 2 L 3 2 L 3 4 L 1 4 z")
    'M1 2H3V4H1z'
    """
    text = re.sub(r"\s*([A-Za-z])\s*", r"\1", d)
    parts = _straight(re.split(r"(?=[A-Za-z])", text))
    found: list[str] = []
    last = ""
    for part in parts:
        repeats = part[:1] == last and last in ("L", "C", "Q")
        found.append(f" {part[1:]}" if repeats else part)
        last = part[:1]
    return "".join(found)


def _straight(parts: list[str]) -> list[str]:
    found: list[str] = []
    at: list[str] = []
    for part in parts:
        to = part[1:].split()
        if part[:1] == "L" and len(to) == 2 and len(at) == 2 and (to[0] == at[0] or to[1] == at[1]):
            found.append(f"V{to[1]}" if to[0] == at[0] else f"H{to[0]}")
        else:
            found.append(part)
        at = to[-2:]
    return found


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
