"""Texts in which something comes again: what the second stage of training learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.demo.recipe import DemoRecipe

#: Tokens of a passage that comes again, and how many there are in a text of 512.
SHORTEST, LONGEST, EVERY = 8, 64, 128
#: Tokens of a copy after which it can be known to be one.
TOLD = 2
#: Token ids [width], and which of them are copies or answers [width].
Row = tuple[NDArray[np.int64], NDArray[np.bool_]]


def copied_rows(texts: Iterator[NDArray[np.int64]], seed: int) -> Iterator[Row]:
    """Texts in which passages come again, half of them with their tokens in another order than a text has them.

    A passage that was shuffled can be told by copying alone. A copy begins anywhere behind the end of its passage.

    Args:
        texts: Token ids [width], endless; each is cut short by as much as comes again.
        seed: Of all that is drawn.
    """
    random = np.random.default_rng(seed)
    while True:
        text = next(texts)
        width = len(text)
        ids, marks = list(text), [False] * width
        for _ in range(max(1, width // EVERY)):
            size = int(random.integers(min(SHORTEST, width // 8), min(LONGEST, width // 4) + 1))
            start = int(random.integers(0, width - 2 * size))
            if random.random() < 0.5:
                ids[start : start + size] = list(random.permutation(ids[start : start + size]))
            place = int(random.integers(start + size, width - size))
            ids[place:place] = ids[start : start + size]
            marks[place:place] = [number >= TOLD for number in range(size)]
            del ids[width:], marks[width:]
        yield np.array(ids, dtype=np.int64), np.array(marks, dtype=np.bool_)


def asked_rows(texts: Iterable[tuple[Sequence[int], Sequence[tuple[int, int]]]]) -> Iterator[Row]:
    """Texts with questions as rows.

    Args:
        texts: Of each its token ids, and start and end of each answer.
    """
    for ids, answers in texts:
        marks = np.zeros(len(ids), dtype=np.bool_)
        for start, end in answers:
            marks[start:end] = True
        yield np.asarray(ids, dtype=np.int64), marks


def mixed_batches(
    batches: Iterator[NDArray[np.int64]], asked: Iterator[Row], recipe: DemoRecipe
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Endless batches [batch, context + 1] of text, copied passages and questions, and what each token counts.

    Args:
        batches: Of ordinary text, [batch, context + 1], endless.
        asked: Texts with questions, endless.
        recipe: How many rows are of which kind, and what a token of a copy or an answer counts.
    """
    texts = (row for batch in batches for row in batch)
    copied = copied_rows(texts, recipe.seed + 1)
    plain = recipe.batch - recipe.copied_rows - recipe.asked_rows
    while True:
        rows: list[tuple[NDArray[np.int64], NDArray[np.bool_] | None]] = [(next(texts), None) for _ in range(plain)]
        rows += [next(copied) for _ in range(recipe.copied_rows)]
        rows += [next(asked) for _ in range(recipe.asked_rows)]
        weights = [
            np.ones(len(ids), dtype=np.float32)
            if marks is None
            else np.where(marks, np.float32(recipe.copy_weight), np.float32(1))
            for ids, marks in rows
        ]
        yield np.stack([ids for ids, _ in rows]), np.stack(weights)
