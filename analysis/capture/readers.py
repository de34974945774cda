"""How each shape of indexer tells what it scored and selected: one reader a shape."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence

from indexscope.analysis.capture.chunk import Entries, EntryKind
from indexscope.analysis.capture.indexer import Seen
from indexscope.analysis.capture.site import Reading, Site, heads_of


def read_tokens(site: Site, seen: Seen | None) -> Reading:
    """Every key is an entry, and the layer passes ``indices=`` to the attention (or shares an earlier layer's)."""
    selected = None
    if site.indices is not None and site.select:
        selected = _scatter(site.indices, site.visible)
    if seen is None:
        return Reading(site.visible, selected)
    scores = _token_scores(site, seen)
    heads, weights = heads_of(seen, scores)
    return Reading(site.visible, selected, scores, head_scores=heads, head_weights=weights)


def read_unknown(site: Site, seen: Seen | None) -> Reading:
    """The same shape in a family that nobody has described: scores by key, and ``indices=`` or a folded mask."""
    if site.block_indices is not None:
        raise site.refuse("selects blocks of a size that is not known")
    if site.indices is not None:
        reading = read_tokens(site, seen)
    elif site.untouched or (seen is None and not hasattr(site.module, "indexer")):
        if seen is not None:
            raise site.refuse("neither passes its indexer's selection on as indices= nor puts it into the mask")
        return Reading(site.visible)
    else:
        eligible = site.causal()
        selected = folded(site, eligible)
        scores = None if seen is None else _token_scores(site, seen)
        heads, weights = (None, None) if seen is None or scores is None else heads_of(seen, scores)
        reading = Reading(eligible, selected, scores, head_scores=heads, head_weights=weights)
    if reading.scores is None:
        return reading
    # A family of transformers masks its scores before topk; one that nobody has described may not.
    scores = reading.scores.masked_fill(~reading.eligible[:, 0], -torch.inf)
    return Reading(**{**vars(reading), "scores": scores})


def read_pools(site: Site, seen: Seen | None) -> Reading:
    """glm5_next: pools of consecutive tokens, the incomplete last one always visible, folded into the mask."""
    if site.untouched:
        return Reading(site.visible)
    eligible = site.causal()
    selected = folded(site, eligible)
    if not site.select:
        return Reading(eligible)
    # Layers that share an earlier layer's selection have no indexer, but the same pools.
    config = site.module.config
    size = int(config.index_kpool)  # type: ignore[union-attr, arg-type]
    always = _tail(site, eligible, size) if config.index_kpool_always_select_tail else None  # type: ignore[union-attr]
    if seen is None:
        return Reading(eligible, selected, always=always)
    scores = _scored(site, seen)
    scores = scores.masked_fill(scores <= torch.finfo(scores.dtype).min, -torch.inf)
    return _pooled(site, "pool", size, eligible, selected, always, scores, *heads_of(seen, scores))


def read_blocks(site: Site, seen: Seen | None) -> Reading:
    """qwen4_exp: blocks of consecutive tokens and a visible tail; topk runs once a query that has a whole block."""
    if site.untouched:
        return Reading(site.visible)
    eligible = site.causal()
    selected = folded(site, eligible)
    if seen is None or not site.select:
        return Reading(eligible, selected)
    size = int(seen.indexer.compress_ratio)  # type: ignore[arg-type]
    batch = selected.shape[0] if selected is not None else 1
    blocks = (eligible[:, 0].sum(-1) // size).expand(batch, -1)
    rows = blocks > 0
    if int(rows.sum()) != len(seen.scores):
        raise site.refuse(f"its indexer ran topk {len(seen.scores)} times for {int(rows.sum())} queries with a block")
    width = int(blocks.max())
    scores = torch.full((batch, site.queries, width), -torch.inf, device=eligible.device)
    heads = weights = None
    if seen.scores:
        scores[rows] = pad_sequence(seen.scores, batch_first=True, padding_value=-torch.inf).float()
    if seen.heads:
        padded = pad_sequence(seen.heads, batch_first=True).transpose(1, 2)
        heads = scores.new_zeros((batch, site.queries, padded.shape[1], width))
        heads[rows] = padded
        # The heads are added up and scaled, without learned weights.
        weights = scores.new_full(heads.shape[:3], float(seen.indexer.index_head_dim) ** -0.5)  # type: ignore[arg-type]
    always = _tail(site, eligible, size)
    return _pooled(site, "block", size, eligible, selected, always, scores, heads, weights)


def read_groups(site: Site, seen: Seen | None) -> Reading:
    """minimax_m3: blocks by index of their keys, chosen by each key-value group for its heads, the nearest forced."""
    if site.block_indices is None or seen is None or not site.select:
        return Reading(site.visible)
    size, scores = int(seen.indexer.block_size), _scored(site, seen)  # type: ignore[arg-type]
    batch, groups, queries, count = scores.shape
    if count != -(-site.keys // size):
        raise site.refuse(f"its indexer scores {count} blocks of {size} for {site.keys} keys")
    chosen = torch.zeros((batch, groups, queries, count + 1), dtype=torch.bool, device=scores.device)
    safe = site.block_indices.masked_fill(site.block_indices < 0, count)
    chosen = chosen.scatter_(-1, safe.long(), True)[..., :count]
    forced = scores == torch.inf
    keys = torch.arange(site.keys, device=scores.device)
    first = torch.arange(0, site.keys, size, device=scores.device)[None]
    entries = Entries("block", first, (first + size - 1).clamp_max(site.keys - 1))
    return Reading(
        site.visible,
        chosen[..., keys // size] & site.visible,
        scores.masked_fill(forced, -torch.inf),
        entries=entries,
        chosen=chosen & ~forced,
        # Which blocks are local depends on the query alone, so that every group forces the same.
        always=forced[:, :1][..., keys // size] & site.visible,
    )


def read_compressed(site: Site, seen: Seen | None) -> Reading:
    """deepseek_v4: a window of tokens, followed on the key axis by compressed entries."""
    compressor = getattr(site.module, "compressor", None)
    if compressor is None:
        return Reading(site.visible)
    if site.mask_keys is None:
        raise site.refuse("was given a mask that transformers' mask functions did not make")
    window, count = site.mask_keys, site.keys - site.mask_keys
    rate, query = int(compressor.compress_rate), site.query_positions()
    near = site.visible[..., :window]
    index = torch.arange(count, device=query.device)
    ready = index < ((query + 1) // rate)[:, None]
    eligible = torch.cat([near, ready.expand(*near.shape[:-1], count)], -1)
    tokens = torch.arange(site.start + site.queries - window, site.start + site.queries, device=query.device)
    positions = torch.cat([tokens, torch.full_like(index, -1)])
    selects = hasattr(compressor, "indexer")
    # An entry of a layer with an indexer also holds the window before its own.
    first = (index * rate - (rate if selects else 0)).clamp_min(0)
    entries = Entries("compressed", first[None], (index * rate + rate - 1)[None]) if count else None
    if seen is None or not site.select:
        return Reading(eligible, positions=positions, entries=entries)
    always = torch.cat([near, torch.zeros_like(ready).expand(*near.shape[:-1], count)], -1)
    if not count:
        return Reading(eligible, eligible, positions=positions, always=always)
    scores = _scored(site, seen)
    if scores.shape[-1] != count:
        raise site.refuse(f"its indexer scores {scores.shape[-1]} entries of {count}")
    selected = site.visible & eligible
    heads, weights = heads_of(seen, scores)
    chosen = selected[:, 0, :, window:]
    return Reading(eligible, selected, scores, positions, entries, chosen, always, heads, weights)


def folded(site: Site, eligible: torch.Tensor) -> torch.Tensor | None:
    """The selection that a layer put into its mask, or None where the run wants none of it."""
    if not site.select:
        return None
    if bool((site.visible & ~eligible).any()):
        raise site.refuse("attends to keys after its query, or to padding")
    return site.visible


def _scored(site: Site, seen: Seen) -> torch.Tensor:
    """What went into the indexer's one topk."""
    if not seen.scores:
        raise site.refuse(
            f"{type(seen.indexer).__name__} ({seen.path}) selects without torch.topk: its scores are unseen"
        )
    return seen.scores[-1]


def _token_scores(site: Site, seen: Seen) -> torch.Tensor:
    scores = _scored(site, seen)
    if scores.ndim != 3 or scores.shape[1:] != (site.queries, site.keys):
        raise site.refuse(
            f"{type(seen.indexer).__name__} ({seen.path}) scores {list(scores.shape)}, "
            f"not [batch, {site.queries} queries, {site.keys} keys]"
        )
    return scores.float()


def _scatter(indices: torch.Tensor, eligible: torch.Tensor) -> torch.Tensor:
    """The selection as a mask. Keys outside E_t drop out: before n_t reaches k, topk also returns future keys."""
    batch, queries, _ = indices.shape
    mask = torch.zeros((batch, queries, eligible.shape[-1]), dtype=torch.bool, device=indices.device)
    return mask.scatter_(-1, indices.long(), True).unsqueeze(1) & eligible


def _pooled(
    site: Site,
    kind: EntryKind,
    size: int,
    eligible: torch.Tensor,
    selected: torch.Tensor | None,
    always: torch.Tensor | None,
    scores: torch.Tensor,
    heads: torch.Tensor | None,
    weights: torch.Tensor | None,
) -> Reading:
    """Entries of ``size`` tokens each, counted from the first token, whose selection is seen on the key axis."""
    batch, _, count = scores.shape
    if not count or selected is None:
        return Reading(eligible, selected, always=always)
    first = site.first_tokens(batch)[:, None] + size * torch.arange(count, device=scores.device)
    entries = Entries(kind, first, first + size - 1)
    # A pool is chosen or not as a whole, so that its first token tells.
    index = first.clamp_max(site.keys - 1)[:, None].expand(-1, site.queries, -1)
    chosen = selected[:, 0].expand(batch, -1, -1).gather(-1, index) & scores.isfinite()
    return Reading(eligible, selected, scores, None, entries, chosen, always, heads, weights)


def _tail(site: Site, eligible: torch.Tensor, size: int) -> torch.Tensor:
    """Keys of the pool that is not complete yet, counted from the first token that is not padding."""
    count = eligible.sum(-1, keepdim=True)
    start = site.first_tokens(eligible.shape[0])[:, None, None, None] + count // size * size
    return eligible & (site.key_positions() >= start)
