"""docs/families.md, from the registry: ``python -m indexscope.analysis.capture.document > docs/families.md``."""

from __future__ import annotations

from collections.abc import Callable

from indexscope.analysis.capture.families import KNOWN, UNKNOWN, Family

INTRODUCTION = """\
# Families

<!-- Made by `python -m indexscope.analysis.capture.document` from the declarations in analysis/capture/families.py. -->

What the capture tells of each family of lightning indexers in transformers. The tests run a tiny checkpoint of every
family and hold each row to what was seen: kinds of entries, forced keys, groups, head scores, and that a captured
sequence, whole or in chunks, gives the logits, scores and selection of the model's own forward.

Words: E_t is what query t may attend (causal, within the window, not padding) before any selection. An *entry* is what
an indexer scores. S_t is what the query really attends, forced keys included. A score is -inf where an entry was not up
for selection: it is not complete yet, it lies after the query, or it is visible anyway. Recall compares S_t with the
softmax of the same layer's logits over E_t, the *dense reference*, on the same key axis.

"""

NOTES = """
## What else holds

- **Exact** means equal to `model(input_ids, attention_mask)` with the model's own sdpa or eager attention, to rounding:
  below 1e-4 of the largest logit in float32 (measured: 1e-5). Equal scores at the k-th place are broken arbitrarily, by
  the model as well; in half precision near ties are equal too, and a query whose selection moves gives other logits.
- **Linear attention and state-space layers** have no attention map. They run as they are, are skipped, and the notes of
  the capture name them. Where transformers' code cannot go on from chunk to chunk, a sequence runs at once, which the
  notes tell as well. Then only the features are bounded by the chunk: the model's own forward holds a mask of
  sequence x sequence, so that its memory is not linear in the length.
- **Precision** is what an operation of the indexer counts in costs as served: in FP8 half, since tensor cores are twice
  as fast as in bf16. Here every indexer runs in the precision of its checkpoint.
- **Padding** may be on either side of a sequence, not between its tokens. Queries that are padding have no eligible
  keys. With padding a chunk has at least two tokens, because transformers drops the mask of a single one.
- **Without selection** (the dense self of the same weights) the indexers of known families are not run at all; that of
  an unknown family runs, because it may do more than score, and its selection is dropped.
- **A family that is not in the table** works if it follows the shape: a module whose class name ends in Indexer, one
  `topk` over scores [batch, queries, keys], and a selection that is passed on as `indices=` or put into the mask of the
  layer's attention module, which holds the module as `indexer`. One that does not follow it is refused with the name of
  the module; `indexscope.analysis.capture.protocol` is the way in for such a model.
- **Models without an indexer** are captured through the same interface: attention of any shape that calls transformers'
  attention interface with a mask, sinks, soft-caps and additive biases included.
"""

COLUMNS: tuple[tuple[str, Callable[[Family], str]], ...] = (
    ("family", lambda family: f"`{family.name}`" if family is not UNKNOWN else family.name),
    ("layers with selection", lambda family: family.layers),
    ("an entry is", lambda family: f"{family.entry} (*{family.kind}*)"),
    ("score", lambda family: family.scored),
    ("selection", lambda family: family.selection + (", each group for itself" if family.grouped else "")),
    ("always visible", lambda family: family.always),
    ("dense reference", lambda family: family.dense),
    ("head scores", lambda family: "yes" if family.heads else "no"),
    ("null, and why", lambda family: family.nulls),
    ("chunked exactly", lambda family: family.chunked),
    ("padding", lambda family: family.padding),
    ("scores served in", lambda family: family.precision or "not published: counts whole"),
)


def document() -> str:
    """The text of docs/families.md."""
    rows = [
        "| " + " | ".join(name for name, _ in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cell(family) for _, cell in COLUMNS) + " |" for family in (*KNOWN.values(), UNKNOWN)),
    ]
    return INTRODUCTION + "\n".join(rows) + "\n" + NOTES


if __name__ == "__main__":
    print(document(), end="")
