"""What each attention layer is made of: heads, widths, window, and whether it attends to a selection."""

from __future__ import annotations

import polars as pl
import torch

from analysis.capture.chunk import AttentionChunk
from analysis.capture.observers import capture_sparse
from analysis.capture.source import Source

LAYERS = {
    "layer": pl.Int16,
    "attention_heads": pl.Int32,
    "key_width": pl.Int32,
    "value_width": pl.Int32,
    "window": pl.Int32,
    "selects": pl.Boolean,
}
#: Longest sequence that is run to see a window; a wider one is taken from the configuration.
LONGEST_LOOK = 1024
_CHUNK = 128


def layer_facts(source: Source) -> pl.DataFrame:
    """Heads, widths, window and selection of every layer with an attention map, read off a run.

    A window is what the last query of a sequence one longer than the configured window may attend to: n_t =
    min(t + 1, window). One that is wider than 1024 keys is believed, not looked at.

    Returns:
        layer, attention_heads, key_width and value_width (channels of a head), window (keys; null where every earlier
        key is eligible), selects (whether the layer attends to the selection of an indexer, its own or a shared one).
    """
    config = getattr(getattr(source, "model", None), "config", None)
    text = config.get_text_config(decoder=True) if config is not None else None
    declared = getattr(text, "sliding_window", None)
    kinds = list(getattr(text, "layer_types", None) or [])
    seen: dict[int, dict[str, object]] = {}
    longest = source.max_length
    looked = isinstance(declared, int) and declared < min(LONGEST_LOOK, longest or LONGEST_LOOK)
    length = declared + 1 if looked and declared else 2

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        last = int(chunk.eligible[0, 0, -1].sum())
        window = last if looked and last < length else None
        if isinstance(declared, int) and not looked and _slides(kinds, chunk.layer):
            window = declared
        seen[chunk.layer] = {
            "layer": chunk.layer,
            "attention_heads": chunk.query.shape[1],
            "key_width": chunk.query.shape[-1],
            "value_width": chunk.value.shape[-1],
            "window": window,
            "selects": chunk.selected is not None,
        }
        return capture_sparse(chunk)

    ids = torch.zeros((1, length), dtype=torch.int64, device=source.device)
    for _ in source.run(ids, observe, _CHUNK):
        pass
    return pl.DataFrame([seen[layer] for layer in sorted(seen)], schema=LAYERS)


def _slides(kinds: list[str], layer: int) -> bool:
    return kinds[layer] == "sliding_attention" if layer < len(kinds) else not kinds
