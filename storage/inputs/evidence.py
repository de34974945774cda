"""The answer of a document and the evidence that it needs: as a row of data marks them, and as tokens.

Text is marked in characters, token ids in tokens; a span is [start, end], its end not included. A token belongs to a
span if they share a character, so that a span that splits a token takes the whole token, and one that begins within a
character of several byte-level tokens takes all of them. A token of both the answer and the evidence is the answer's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from indexscope.errors import IndexscopeError

#: Keys of a row: evidence in characters or in tokens, the answer in the same unit, and what kind of question it is.
CHARACTERS, TOKENS, ANSWER, KIND = "evidence", "evidence_tokens", "answer", "kind"
SPANS = (CHARACTERS, TOKENS, ANSWER)
Span = tuple[int, int]


@dataclass(frozen=True)
class Evidence:
    """An answer and the evidence that it needs, in one unit: characters as a row has them, or tokens.

    Attributes:
        spans: Start and end of each stretch of evidence, all before the answer; in tokens ascending and apart. None
            where only the answer is marked.
        answer: Start and end of the answer.
        kind: What kind of question it is, in the data's own words; "" where they do not say.
    """

    spans: tuple[Span, ...]
    answer: Span
    kind: str = ""


class Marked(Protocol):
    """A sample that may have an answer."""

    @property
    def evidence(self) -> Evidence | None:
        """Its answer and evidence, in tokens; None without."""
        ...


def marks_in(row: Mapping[str, Any], content: str | Sequence[int], where: str) -> Evidence | None:
    """What a row of data marks in its content.

    Keys of these names that hold anything but spans are the data's own, unless the other one does hold spans; an answer
    that needs no evidence is marked by an empty list of evidence.

    Args:
        row: The row.
        content: Its text or token ids, in whose characters or ids it counts.
        where: What messages call it.

    Returns:
        The spans as they are written; None where it marks nothing.

    Raises:
        IndexscopeError: It marks something that cannot be.
    """
    key, other = (CHARACTERS, TOKENS) if isinstance(content, str) else (TOKENS, CHARACTERS)
    spans, answer = row.get(key), row.get(ANSWER)
    given = [row[name] for name in (key, other) if row.get(name) is not None]
    if not (any(map(_are_spans, given)) or (given and _is_span(answer))):
        return None
    unit = "characters" if isinstance(content, str) else "tokens"
    if _are_spans(row.get(other)):
        remedy = f"write {key}, and both in {unit}"
        raise IndexscopeError(where, f"marks {other}, but its content is counted in {unit}", remedy)
    if not _is_span(answer):
        remedy = f"add answer: [start, end] in {unit}"
        raise IndexscopeError(where, f"has {key}, and no [start, end] as its answer", remedy)
    if spans is not None and spans != [] and not _are_spans(spans):
        raise IndexscopeError(where, f"has {key} that is no list of [start, end]", "write for example [[120, 160]]")
    assert isinstance(answer, list)
    first, last = answer
    kind = row.get(KIND)
    found = Evidence(
        tuple((one[0], one[1]) for one in spans or ()), (first, last), kind if isinstance(kind, str) else ""
    )
    _check(found, len(content), unit, where)
    return found


def in_tokens(marks: Evidence, offsets: Sequence[Span], where: str) -> Evidence:
    """Marked characters as tokens.

    Args:
        marks: In characters.
        offsets: Start and end of each token in the text, as fast tokenizers tell them; empty for special tokens.
        where: What messages call the document.

    Raises:
        IndexscopeError: No token holds any of a span's characters, or nothing precedes the answer.
    """
    answer = _tokens(marks.answer, offsets, f"answer {_shown(marks.answer)}", where)
    spans = []
    for number, span in enumerate(marks.spans, start=1):
        start, end = _tokens(span, offsets, f"evidence {number} {_shown(span)}", where)
        if start >= answer[0]:
            reason = f"evidence {number} {_shown(span)} lies in the token that its answer begins with"
            raise IndexscopeError(where, reason, "mark evidence and answer further apart")
        spans.append((start, min(end, answer[0])))
    return predicted(Evidence(tuple(spans), answer, marks.kind), where)


def predicted(evidence: Evidence, where: str) -> Evidence:
    """The same in tokens, spans in order and apart, where something precedes the answer.

    Raises:
        IndexscopeError: Nothing does.
    """
    if evidence.answer[0] == 0:
        reason = "has an answer that begins with the first token, which nothing predicts"
        raise IndexscopeError(where, reason, "put the question before it")
    return replace(evidence, spans=_joined(evidence.spans))


def evidence_fingerprint(samples: Iterable[Marked]) -> str:
    """Hash of what samples mark, and of which samples do: 64 hexadecimal digits; "" where none has an answer."""
    marked = [
        [place, sample.evidence.spans, sample.evidence.answer, sample.evidence.kind]
        for place, sample in enumerate(samples)
        if sample.evidence is not None
    ]
    return hashlib.sha256(json.dumps(marked).encode()).hexdigest() if marked else ""


def as_marks(evidence: Evidence | None) -> dict[str, Any]:
    """The keys of a row of token ids that say the same."""
    if evidence is None:
        return {}
    spans = [list(span) for span in evidence.spans]
    kind = {KIND: evidence.kind} if evidence.kind else {}
    return {TOKENS: spans, ANSWER: list(evidence.answer), **kind}


def _check(marks: Evidence, size: int, unit: str, where: str) -> None:
    named = {f"evidence {number}": span for number, span in enumerate(marks.spans, start=1)}
    for name, (start, end) in {**named, "answer": marks.answer}.items():
        if not 0 <= start < end <= size:
            reason = f"{name} {_shown((start, end))} is not within its {size} {unit}"
            raise IndexscopeError(where, reason, "give start and end, the end not included, with start < end")
        if name != "answer" and end > marks.answer[0]:
            reason = f"{name} {_shown((start, end))} is not before the answer {_shown(marks.answer)}"
            raise IndexscopeError(where, reason, "mark what the answer needs before it begins")


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, those that overlap or touch as one.

    >>> _joined([(5, 7), (1, 3), (2, 4), (7, 8)])
    ((1, 4), (5, 8))
    """
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return tuple(found)


def _tokens(span: Span, offsets: Sequence[Span], name: str, where: str) -> Span:
    start, end = span
    own = [place for place, (first, last) in enumerate(offsets) if first < last and first < end and last > start]
    if not own:
        reason = f"{name} is in no token: its characters are those that the tokenizer leaves out"
        raise IndexscopeError(where, reason, "mark the text around them as well")
    return own[0], own[-1] + 1


def _shown(span: Span) -> str:
    return f"[{span[0]}, {span[1]}]"


def _is_span(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value)


def _are_spans(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_span, value))
