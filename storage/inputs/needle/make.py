"""Texts of exact length with what they hide at exact depths."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.evidence import Evidence, Span
from indexscope.storage.inputs.needle.haystack import Haystack, haystack
from indexscope.storage.inputs.needle.pieces import Ids, Pieces
from indexscope.storage.inputs.needle.questions import ASK
from indexscope.storage.inputs.needle.settings import Kind, NeedleSettings
from indexscope.storage.inputs.needle.words import ASKED
from indexscope.storage.inputs.packing import TokenDocument

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class _Put:
    """A sentence in tokens, which of them the answer needs, and in front of which token of the haystack it stands."""

    ids: Ids
    needed: Span | None
    place: int


def needle_documents(
    settings: NeedleSettings, tokenizer: PreTrainedTokenizerBase, seed: int, trained_on: bool = False
) -> Iterator[TokenDocument]:
    """Make the samples: first one of every kind, length and depth in an order that the seed draws, then the second.

    Each sample follows from the seed, its own kind, length, depth and number alone, so that more of anything adds to
    what there is and changes nothing of it. The farthest evidence of a sample begins at the middle of its depth's part
    of the tokens before the answer, moved to a line's beginning if one is within a quarter of the part; where there are
    several, the others lie anywhere between it and the question, in order.

    Args:
        settings: What is hidden where.
        tokenizer: Any tokenizer of English text.
        seed: Of all that is drawn.
        trained_on: Which part of the standard library it is hidden in.

    Raises:
        IndexscopeError: A kind does not fit into a length, the tokenizer is none of such text, or the haystack cannot
            be read.
    """
    pieces = Pieces(tokenizer)
    text = haystack(settings.haystack, pieces, trained_on)
    for number in range(settings.per_cell):
        cells = list(product(settings.kinds, settings.lengths, range(settings.depths)))
        random.Random(f"needles {number} of seed {seed}").shuffle(cells)
        for kind, length, depth in cells:
            name = f"{kind} {length} depth {depth + 1} of {settings.depths} number {number + 1}"
            draw = random.Random(f"{name} of seed {seed}")
            yield _made(name, kind, length, (depth, settings.depths), text, pieces, draw)


def _made(
    name: str, kind: Kind, length: int, depth: tuple[int, int], text: Haystack, pieces: Pieces, draw: random.Random
) -> TokenDocument:
    asked = ASK[kind](draw, ASKED)
    question, answer, *others = pieces.of([asked.question, asked.answer, *asked.others])
    parts = [pieces.of(hidden) for hidden in asked.hidden]
    taken = [pieces.first, question, answer, *others, *(ids for part in parts for ids in part)]
    room = length - sum(map(len, taken))
    if room < 1:
        reason = (
            f"{length} tokens leave no room for a text around {kind}, which takes {length - room} of this tokenizer"
        )
        raise IndexscopeError("dataset.needle.lengths", reason, f"use lengths above {length - room}, or other kinds")
    hay, lines = text.tokens(room, draw)
    put = [_Put(ids, None, draw.randint(0, room)) for ids in others]
    before = sorted((one.place, len(one.ids)) for one in put)
    place, of = depth
    width = (length - len(answer)) / of
    lead = len(pieces.first) + len(parts[0][0])
    first = _place((place + 0.5) * width - lead, width / 4, room, lines, before)
    rest = sorted(draw.randint(first, room) for _ in parts[1:])
    for ids, at in zip(parts, [first, *rest], strict=True):
        put.append(_Put(ids[0] + ids[1] + ids[2], (len(ids[0]), len(ids[0]) + len(ids[1])), at))
    return _assembled(name, kind, pieces.first, hay, put, question, answer)


def _place(wanted: float, slack: float, room: int, lines: Sequence[int], before: Sequence[tuple[int, int]]) -> int:
    """The token of the haystack in front of which something begins nearest to a place of the whole text.

    Args:
        wanted: That place, counted from the haystack's first token.
        slack: How far it may be moved to a line's beginning.
        room: Tokens of the haystack.
        lines: Where its lines begin.
        before: Places and sizes of other sentences in it, ascending; those at or before it push it back.
    """
    places = [at for at, _ in before]
    sums = [0]
    for _, size in before:
        sums.append(sums[-1] + size)

    def stands(at: int) -> int:
        return at + sums[bisect_right(places, at)]

    def off(at: int) -> float:
        return abs(stands(at) - wanted)

    after = bisect_left(range(room), wanted, key=stands)
    exact, line = min((max(after - 1, 0), after), key=off), min(lines, key=off)
    return line if off(line) <= max(slack, off(exact)) else exact


def _assembled(
    name: str, kind: Kind, first: Ids, hay: Ids, put: Sequence[_Put], question: Ids, answer: Ids
) -> TokenDocument:
    ids, spans, taken = list(first), list[Span](), 0
    for one in sorted(put, key=lambda one: one.place):  # of one place those that are not needed come first
        ids.extend(hay[taken : one.place])
        taken = one.place
        if one.needed is not None:
            spans.append((len(ids) + one.needed[0], len(ids) + one.needed[1]))
        ids.extend(one.ids)
    ids.extend(hay[taken:])
    ids.extend(question)
    marked = Evidence(tuple(spans), (len(ids), len(ids) + len(answer)), kind)
    return TokenDocument(name, (*ids, *answer), False, marked)
