"""Samples: token sequences with a name, their fingerprint, and the shards they are worked on in."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from indexscope.storage.inputs.evidence import Evidence, as_marks


@dataclass(frozen=True, slots=True)
class Sample:
    """One token sequence.

    Attributes:
        index: Its place in the dataset, from 0.
        name: Where it comes from: the document's name, with "@n" where the sequence begins at its token n > 0.
        input_ids: Token ids.
        evidence: Its answer and the evidence that this needs, in tokens; None where the data mark none.
        cut_off: Whether the data mark an answer that the longest length cut off.
    """

    index: int
    name: str
    input_ids: tuple[int, ...]
    evidence: Evidence | None = None
    cut_off: bool = False


def dataset_fingerprint(samples: Sequence[Sample]) -> str:
    """Hash the token ids of all samples in order; names and origins are no part of it, nor is what the data mark.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(len(samples).to_bytes(8, "little"))
    for sample in samples:
        ids = array("q", sample.input_ids)
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(ids.tobytes())
    return digest.hexdigest()


#: Key of a row of token ids that says which document it was cut from.
CUT_FROM = "cut_from"


def as_rows(samples: Sequence[Sample]) -> bytes:
    """Samples as a JSONL file that a study or a fit can read (column input_ids), each with where it was cut from."""
    rows = (
        {CUT_FROM: sample.name, "input_ids": list(sample.input_ids), **as_marks(sample.evidence)} for sample in samples
    )
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def document_of(name: str) -> str:
    """Name of the document that a sample was cut from.

    >>> document_of("lib/ast.py@1024"), document_of("lib/ast.py")
    ('lib/ast.py', 'lib/ast.py')
    """
    document, _, place = name.rpartition("@")
    return document if document and place.isdecimal() else name


def spread(samples: Sequence[Sample], count: int | None) -> list[Sample]:
    """At most so many samples, evenly spaced over all of them; None for all.

    >>> [sample.index for sample in spread([Sample(i, "", (1, 2)) for i in range(10)], 4)]
    [1, 3, 6, 8]
    """
    if count is None or count >= len(samples):
        return list(samples)
    return [samples[(2 * place + 1) * len(samples) // (2 * count)] for place in range(count)]


def shard(samples: Sequence[Sample], size: int) -> list[tuple[str, tuple[Sample, ...]]]:
    """Cut samples into named shards of a fixed size; the last may be smaller.

    >>> [(name, len(part)) for name, part in shard([Sample(i, "", (1, 2)) for i in range(3)], 2)]
    [('shard-00000', 2), ('shard-00001', 1)]
    """
    if size < 1:
        raise ValueError(f"shard size {size} is below 1")
    starts = range(0, len(samples), size)
    return [(f"shard-{number:05d}", tuple(samples[start : start + size])) for number, start in enumerate(starts)]
