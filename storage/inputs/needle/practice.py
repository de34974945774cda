"""Texts to learn answering from: several questions each, in words and numbers that builtin:needle lacks."""

from __future__ import annotations

import random
from typing import NamedTuple

from indexscope.storage.inputs.evidence import Span
from indexscope.storage.inputs.needle.haystack import Haystack
from indexscope.storage.inputs.needle.pieces import Ids
from indexscope.storage.inputs.needle.questions import ASK, Asked
from indexscope.storage.inputs.needle.settings import KINDS
from indexscope.storage.inputs.needle.words import PRACTISED

#: Of a text, what is hidden and asked takes at most this share; the rest is haystack.
MOST = 0.75


class Practice(NamedTuple):
    """A text in tokens, and start and end of each answer in it, in order."""

    ids: Ids
    answers: tuple[Span, ...]


class _Put(NamedTuple):
    place: float
    ids: Ids
    answer: Ids = ()


def practice(text: Haystack, length: int, draw: random.Random) -> Practice:
    """A text with questions of any kind, each somewhere behind what its answer needs, every second one at the end.

    Args:
        text: What it is hidden in, of what is trained on.
        length: Tokens of it, exactly.
        draw: Draws kinds, words, numbers and places.

    Raises:
        ValueError: Not even one question fits.
    """
    put, taken = list[_Put](), 0
    while True:
        more = _put(ASK[draw.choice(KINDS)](draw, PRACTISED), text, draw)
        taken += sum(len(one.ids) + len(one.answer) for one in more)
        if taken > MOST * length:
            break
        put += more
    if not put:
        raise ValueError(f"{length} tokens leave no room for a question")
    room = length - sum(len(one.ids) + len(one.answer) for one in put)
    hay, _ = text.tokens(room, draw)
    ids, answers, used = list[int](), list[Span](), 0
    for one in sorted(put, key=lambda one: one.place):
        ids.extend(hay[used : int(one.place * room)])
        used = int(one.place * room)
        ids.extend(one.ids)
        if one.answer:
            answers.append((len(ids), len(ids) + len(one.answer)))
            ids.extend(one.answer)
    ids.extend(hay[used:])
    return Practice(tuple(ids), tuple(answers))


def _put(asked: Asked, text: Haystack, draw: random.Random) -> list[_Put]:
    """What a question needs, then the question, in order, and sentences alike anywhere."""
    question, answer, *others = text.pieces.of([asked.question, asked.answer, *asked.others])
    hidden = text.pieces.of(["".join(one) for one in asked.hidden])
    *places, last = sorted(draw.random() for _ in range(len(hidden) + 1))
    return [
        *(_Put(place, ids) for place, ids in zip(places, hidden, strict=True)),
        *(_Put(draw.random(), ids) for ids in others),
        _Put(draw.choice((last, 1.0)), question, answer),
    ]
