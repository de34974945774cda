"""Where in a model indexers can be fitted, and how wide what reaches them there is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.families import family_of
from indexscope.analysis.capture.indexer import indexers
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.observers import capture_dense
from indexscope.analysis.fitting.inlet import Inlet, Inputs, distinct
from indexscope.analysis.fitting.scorer import ScorerShape

#: Tokens that are run to see what reaches the attention.
LOOK = 4


@dataclass(frozen=True)
class Widths:
    """What reaches the attention of a layer.

    Attributes:
        hidden: Width of the hidden states.
        latent: Width of the query latent; 0 without one.
        rotation: Width of the cosines; 0 without RoPE.
        frequencies: Where in them each frequency stands first.
        rope_dim: Rotated dimensions of a key of multi-head latent attention; None of any other attention.
    """

    hidden: int
    latent: int
    rotation: int
    frequencies: tuple[int, ...]
    rope_dim: int | None


@dataclass(frozen=True)
class Places:
    """Where indexers can be fitted.

    Attributes:
        first: Layers with an attention module of their own; of layers that share one, the first.
        modules: The attention module of each of these.
        widths: What reaches it.
        of: For every layer with an attention map, the layer in ``first`` whose module it runs.
        family: Name of the family of the model's own indexers; None where it has none.
    """

    first: tuple[int, ...]
    modules: dict[int, nn.Module]
    widths: dict[int, Widths]
    of: dict[int, int] = field(default_factory=dict)
    family: str | None = None


def places_of(looked_at: PreTrainedModel | CapturedModel) -> Places:
    """Look at a model by running a few tokens through it, dense; only shapes and rotations matter, not its weights.

    Raises:
        IndexscopeError: It cannot be captured, or its own indexers cannot be replaced: they do not score tokens.
    """
    captured = looked_at if isinstance(looked_at, CapturedModel) else CapturedModel(looked_at)
    model = captured.model
    family = family_of(model)
    if indexers(model) and (family.kind != "token" or family.forced or family.grouped or family.skip is None):
        reason = f"its own indexers ({family.name}) do not select single tokens, so that they cannot be replaced"
        raise IndexscopeError(str(model.config.model_type), reason, "use a dense model, or one of docs/families.md")
    modules: dict[int, nn.Module] = {}
    of: dict[int, int] = {}
    known: dict[int, int] = {}
    for layer, module in sorted(captured.attentions.items()):
        of[layer] = known.setdefault(id(module), layer)
        modules.setdefault(of[layer], module)
    inlets = {layer: Inlet(module) for layer, module in modules.items()}
    seen: dict[int, Inputs] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        if chunk.positions is not None:
            reason = f"layer {chunk.layer} has keys that are no tokens, among which no indexer can be fitted"
            raise IndexscopeError(captured.family, reason, "use another model")
        seen[of[chunk.layer]] = inlets[of[chunk.layer]].take()
        return capture_dense(chunk)

    try:
        ids = torch.zeros((1, LOOK), dtype=torch.int64, device=captured.device)
        for _ in captured.run(ids, observe, LOOK, select=False):
            pass
    finally:
        for inlet in inlets.values():
            inlet.close()
    widths = {layer: _widths(modules[layer], given) for layer, given in seen.items()}
    return Places(tuple(sorted(widths)), modules, widths, of, family.name if indexers(model) else None)


def _widths(module: nn.Module, given: Inputs) -> Widths:
    rope = getattr(module, "qk_rope_head_dim", None)
    return Widths(
        hidden=given.hidden.shape[-1],
        latent=0 if given.latent is None else given.latent.shape[-1],
        rotation=0 if given.rotation is None else given.rotation[0].shape[-1],
        frequencies=() if given.rotation is None else distinct(given.rotation),
        rope_dim=rope if isinstance(rope, int) and rope > 0 else None,
    )


def shape_at(widths: Widths, heads: int, dim: int) -> ScorerShape:
    """The lightning indexer of a layer.

    Queries come from the latent where there is one. Of multi-head latent attention the first qk_rope_head_dim
    dimensions are rotated, as DeepSeek-V3.2 does it, where the indexer is that wide; of all other attention half of
    the dimensions, by frequencies that are evenly spaced over the model's, so that all of its spectrum is there.

    Raises:
        IndexscopeError: RoPE rotates pairs of dimensions, and dim is odd.
    """
    rotary: tuple[int, ...] = ()
    if widths.frequencies:
        if dim % 2:
            remedy = "choose an even dim"
            raise IndexscopeError("indexers", f"dim {dim} is odd, and RoPE rotates pairs of dimensions", remedy)
        count = len(widths.frequencies)
        if widths.rope_dim == 2 * count and dim >= 2 * count:
            rotary = widths.frequencies
        else:
            pairs = max(1, min(dim // 4, count))
            rotary = tuple(widths.frequencies[place * count // pairs] for place in range(pairs))
    latent = widths.latent > 0
    query = widths.latent if latent else widths.hidden
    return ScorerShape(heads, dim, widths.hidden, query, "latent" if latent else "hidden", rotary)
