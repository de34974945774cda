"""What is hidden in a text and asked at its end, one function a kind, in words of its own.

The kinds are those of RULER (Hsieh et al. 2024, arXiv 2404.06654), whose needles, multi-key and multi-value retrieval
and variable tracking these follow in what they ask and not in how they say it, and verbatim repetition. Every question
ends in the beginning of its answer, so that a model without instruction tuning goes on with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from indexscope.storage.inputs.needle.settings import Kind
from indexscope.storage.inputs.needle.words import Words

#: Codes of one thing, codes of other things, links of a chain, and variables that are no part of it.
VALUES, OTHERS, LINKS, STRANGERS = 4, 4, 4, 2
#: Words of a note that are given, and that are asked.
GIVEN, REPEATED = 4, 16


class Hidden(NamedTuple):
    """A sentence that is hidden: what leads to the part that the answer needs, that part, and what ends it."""

    before: str
    needed: str
    after: str


class Asked(NamedTuple):
    """A question.

    Attributes:
        hidden: What its answer needs, in the order in which it stands in the text.
        others: Sentences alike that it does not need.
        question: What ends the text.
        answer: How it goes on.
    """

    hidden: tuple[Hidden, ...]
    others: tuple[str, ...]
    question: str
    answer: str


def _single(draw: random.Random, words: Words) -> Asked:
    return _keys(draw, words, others=0)


def _multi_key(draw: random.Random, words: Words) -> Asked:
    return _keys(draw, words, OTHERS)


def _keys(draw: random.Random, words: Words, others: int) -> Asked:
    name, *more = _distinct(1 + others, words.name, draw)
    value, *wrong = _distinct(1 + others, words.code, draw)
    return Asked(
        (Hidden(f"\nThe code of the {name} is", f" {value}", "."),),
        tuple(f"\nThe code of the {other} is {code}." for other, code in zip(more, wrong, strict=True)),
        f"\nQuestion: what is the code of the {name}?\nAnswer: the code of the {name} is",
        f" {value}",
    )


def _multi_value(draw: random.Random, words: Words) -> Asked:
    (name,), codes = _distinct(1, words.name, draw), _distinct(VALUES, words.code, draw)
    return Asked(
        tuple(Hidden(f"\nA code of the {name} is", f" {code}", ".") for code in codes),
        (),
        f"\nQuestion: what are the codes of the {name}, in the order of the text?\nAnswer: the codes of the {name} are",
        f" {', '.join(codes)}",
    )


def _variable_tracking(draw: random.Random, words: Words) -> Asked:
    names = _distinct(LINKS + STRANGERS, words.variable, draw)
    code, *wrong = _distinct(1 + STRANGERS, words.code, draw)
    chain, strangers = names[:LINKS], names[LINKS:]
    held = [code, *chain[:-1]]
    return Asked(
        tuple(Hidden("\nThe variable", f" {name} = {value}", ".") for name, value in zip(chain, held, strict=True)),
        tuple(f"\nThe variable {name} = {value}." for name, value in zip(strangers, wrong, strict=True)),
        f"\nQuestion: which number does the variable {chain[-1]} come to?\nAnswer: {chain[-1]} =",
        f" {code}",
    )


def _copy(draw: random.Random, words: Words) -> Asked:
    (name,) = _distinct(1, words.name, draw)
    note = [words.word(draw) for _ in range(GIVEN + REPEATED)]
    given, rest = " ".join(note[:GIVEN]), " ".join(note[GIVEN:])
    return Asked(
        (Hidden(f"\nThe note of the {name} reads: {given}", f" {rest}", "."),),
        (),
        f"\nQuestion: what does the note of the {name} read?\nAnswer: it reads: {given}",
        f" {rest}",
    )


ASK: Mapping[Kind, Callable[[random.Random, Words], Asked]] = {
    "single": _single,
    "multi_key": _multi_key,
    "multi_value": _multi_value,
    "variable_tracking": _variable_tracking,
    "copy": _copy,
}


def _distinct(count: int, one: Callable[[random.Random], str], draw: random.Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[one(draw)] = None
    return list(found)
