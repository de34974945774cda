"""Tables of answers whose every number is known: a needle is kept by its depth, and an answer is right where it is."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.evidence.tables import ANSWERS, EVIDENCE, TEXT

KINDS, LENGTHS, DEPTHS, PER_CELL, LAYERS = ("single", "copy"), (512, 2048), 10, 2, 2


def features(lost_below: float = 0.5, kinds: tuple[str, ...] = KINDS) -> dict[str, pl.DataFrame]:
    """Two layers: layer 0 keeps all evidence, layer 1 none of what begins before a depth at 2,048 tokens.

    Answers are exact with every key but those of the kind "copy" in the last cell, and with the selection where layer 1
    keeps the evidence.
    """
    answers, evidence, text = [], [], []
    sample = 0
    for number in range(PER_CELL):
        for kind in kinds:
            for length in LENGTHS:
                for depth in range(DEPTHS):
                    start = length - 12
                    begin = int((depth + 0.5) / DEPTHS * start)
                    kept = not (length == 2048 and depth / DEPTHS < lost_below)
                    dense = not (kind == "copy" and depth == DEPTHS - 1)
                    sparse = (0.5 if kept else 2.0, 1.0 if kept else 0.5, kept and dense)
                    with_all = (0.25, 1.0 if dense else 0.5, dense)
                    answers.append((sample, kind, length, start, 10, 20, begin, *sparse, *with_all))
                    for layer in range(LAYERS):
                        share = 1.0 if layer == 0 or kept else 0.0
                        rank = 32.0 if share else 400.0 + number
                        evidence.append(
                            (sample, layer, 10, 1.0, share, 0.125, share == 1.0, 0.4, 0.4 * share, 5.0, rank, rank)
                        )
                    for place, role in ((begin, "evidence"), (start - 1, "text"), (start, "answer")):
                        held = (1.0 if kept else 0.5) if role == "evidence" else None
                        right = kept if role == "answer" else None
                        text.append((sample, place, f" {role}", role, held, right, dense if role == "answer" else None))
                    sample += 1
    frames = {}
    for name, rows, table in (
        ("answers", answers, ANSWERS),
        ("evidence", evidence, EVIDENCE),
        ("answer_text", text, TEXT),
    ):
        frames[name] = table.shaped(pl.DataFrame(rows, schema=list(table.schema), orient="row"))
    return frames
