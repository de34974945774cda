"""What is known of each model before anything was measured: one table, a model a column."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ModelPage
from indexscope.analysis.report.numbers import DASH, count, number


def facts_table(pages: Sequence[ModelPage]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Rows of a name and one text for each model, a dash where it has no such fact."""
    each = [dict(_facts(page)) for page in pages]
    names = dict.fromkeys(name for facts in each for name in facts)
    return tuple((name, tuple(facts.get(name, DASH) for facts in each)) for name in names)


def _facts(page: ModelPage) -> tuple[tuple[str, str], ...]:
    if page.dump:
        return ("role", page.role), ("fingerprint", plain(page.fingerprint)), ("selections, made by", plain(page.dump))
    facts = page.facts

    def parameters(key: str) -> str:
        return number(facts.get(key), "parameters")

    def text(key: str) -> str:
        return plain(facts[key]) if facts.get(key) not in (None, "") else DASH

    rows = [
        ("role", page.role),
        ("fingerprint", plain(page.fingerprint)),
        ("family", text("family")),
        ("parameters", parameters("parameters")),
        ("layers × attention heads", f"{count(facts.get('layers'))} × {count(facts.get('attention_heads'))}"),
    ]
    if page.has_indexer:
        heads, width, layers = (count(facts.get(key)) for key in ("indexer_heads", "indexer_dim", "indexer_layers"))
        rows += [
            ("indexer", f"in {layers} layers"),
            ("indexer heads × width", f"{heads} × {width}"),
            ("keys selected per query, at most", count(facts.get("index_topk"))),
            ("indexer parameters", parameters("indexer_parameters")),
        ]
    else:
        rows.append(("indexer", "none (dense attention)"))
    return (*rows, ("precision and device", f"{text('dtype')} on {text('device')}"))
