"""What users hand over, as the tensors that `analysis` takes, or one ValueError that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.trace import selection_mask, sum_tolerance

Weights = torch.Tensor | NDArray[Any] | Sequence[torch.Tensor | NDArray[Any]]
Selection = Weights


@dataclass(frozen=True)
class Maps:
    """Attention maps that passed all checks; the heads of several layers follow each other.

    Attributes:
        weights: Attention p, [batch, heads, S, S], float32 or float64 (half precision was widened), on the user's
            device if that is a CPU or CUDA.
        causal: Whether E_t are the keys up to the query; else every key.
        batched: Whether they came with a batch dimension.
        layers: Layers, each of which has heads / layers of the heads.
    """

    weights: torch.Tensor
    causal: bool
    batched: bool
    layers: int = 1

    @property
    def batch(self) -> int:
        """Samples."""
        return self.weights.shape[0]

    @property
    def heads(self) -> int:
        """Attention heads, of all layers."""
        return self.weights.shape[1]

    @property
    def length(self) -> int:
        """Tokens, S."""
        return self.weights.shape[-1]

    @property
    def eligible(self) -> torch.Tensor:
        """E_t, [S, S], bool."""
        every = torch.ones(self.weights.shape[-2:], dtype=torch.bool, device=self.weights.device)
        return every.tril() if self.causal else every

    def prefix(self, length: int) -> Maps:
        """The first tokens alone; only of causal maps, whose queries know nothing of what follows."""
        return Maps(self.weights[..., :length, :length], self.causal, self.batched, self.layers)

    def layer(self, index: int) -> Maps:
        """One of the layers."""
        own = self.heads // self.layers
        return Maps(self.weights[:, index * own : (index + 1) * own], self.causal, self.batched)

    def called(self, head: int) -> str:
        """A head in words, with its layer where there are several."""
        layer, own = divmod(head, self.heads // self.layers)
        return f"head {own}" if self.layers == 1 else f"layer {layer} head {own}"

    def of_head(self, mask: torch.Tensor, head: int) -> torch.Tensor:
        """What of a selection [batch, groups, S, S] holds for a head, [batch, S, S]."""
        return mask[:, head * mask.shape[1] // self.heads]


def as_maps(weights: object, causal: bool | None = None, name: str = "attention_weights") -> Maps:
    """Attention weights after the softmax as checked maps.

    Args:
        weights: torch or numpy, [S, S], [heads, S, S] or [batch, heads, S, S], any device and floating-point dtype; of
            several layers a list of these, or [layers, batch, heads, S, S].
        causal: Whether queries see earlier keys and themselves alone. None finds out: maps without any weight after
            the query are causal, those in which most queries reach beyond themselves are not, and what lies between
            is refused, since it is what a leak looks like.
        name: What messages call the weights.

    Raises:
        ValueError: Wrong type, rank or shape; NaN or infinity; negative weights; rows that do not sum to 1; weights
            after the query in causal maps.
    """
    if isinstance(weights, list | tuple):
        return _of_layers(weights, causal, name)
    tensor = _tensor(weights, name)
    if tensor.dim() == 5:
        return _of_layers(tensor.unbind(0), causal, name)
    shape = _words(tensor.shape)
    if not tensor.is_floating_point():
        refuse(name, f"is {tensor.dtype}", "give floating-point weights, after the softmax")
    if tensor.dim() not in (2, 3, 4):
        refuse(name, f"has shape {shape}", "give [S, S], [heads, S, S] or [batch, heads, S, S], or a list of layers")
    if tensor.shape[-1] != tensor.shape[-2]:
        refuse(name, f"has shape {shape}, {tensor.shape[-2]} queries and {tensor.shape[-1]} keys", "give square maps")
    if not tensor.numel():
        refuse(name, f"has shape {shape}", "give at least one map of one token")
    batched = tensor.dim() == 4
    if tensor.device.type not in ("cpu", "cuda"):
        tensor = tensor.cpu()  # the features add up in float64, which not every accelerator has
    maps = tensor.detach().reshape(1 if not batched else tensor.shape[0], -1, *tensor.shape[-2:])
    _check_values(maps, tensor.dim(), name)
    if maps.dtype not in (torch.float32, torch.float64):
        maps = maps.float()
    return Maps(maps, _is_causal(maps, tensor.dim(), causal, name), batched)


def _of_layers(weights: Sequence[object], causal: bool | None, name: str) -> Maps:
    """The maps of several layers, the heads of one after those of the other."""
    if not len(weights):
        refuse(name, "holds no layer", "give at least one layer's weights (output_attentions=True)")
    layers = [as_maps(each, causal, f"{name}[{index}]") for index, each in enumerate(weights)]
    first = layers[0]
    for index, each in enumerate(layers):
        if each.layers > 1:
            refuse(f"{name}[{index}]", f"holds {each.layers} layers", "give one list of layers")
        if each.weights.shape != first.weights.shape:
            shapes = " and ".join(_words(maps.weights.shape) for maps in (first, each))
            refuse(name, f"has layers 0 and {index} of unlike shapes {shapes}", f"give one layer, e.g. {name}[0]")
        if each.causal != first.causal:
            reason = f"is causal in one of the layers 0 and {index} and not in the other"
            refuse(name, reason, f"say causal=False, or give one layer, e.g. {name}[0]")
    stacked = torch.cat([each.weights.to(first.weights.device) for each in layers], 1)
    return Maps(stacked, first.causal, first.batched, len(layers))


def one_layer(maps: Maps, name: str = "attention_weights") -> Maps:
    """The same maps, of one layer.

    Raises:
        ValueError: They are of several.
    """
    if maps.layers > 1:
        refuse(name, f"holds {maps.layers} layers, of which this shows one", f"give it, e.g. {name}[0]")
    return maps


def as_selection(selected: object, maps: Maps, name: str = "selected_tokens") -> torch.Tensor:
    """The selection as a mask, [batch, groups, S, S], bool, within E_t; each group is of equally many heads in order.

    Args:
        selected: A bool mask [S, S], [batch, S, S], [heads, S, S] or [batch, heads, S, S], True where query t (rows)
            attends to key s; or integers [..., S, k], the selected keys of each query, -1 for none. Three dimensions
            are one mask a sample where the weights have a batch of that many, else one mask a head. Of several layers
            a list of these, or layers in front: [layers, batch, S, S]; without, it holds for every layer.
        maps: The attention that it belongs to.
        name: What messages call the selection.

    Integers are what topk returns, which is always k keys: where a query has fewer than k keys to choose from, its
    picks after itself are left out, as the model leaves them out.

    Raises:
        ValueError: Wrong type or shape, a key that there is not, or one after its query.
    """
    if maps.layers > 1:
        masks = [
            as_selection(each, maps.layer(index), name if each is selected else f"{name}[{index}]")
            for index, each in enumerate(_by_layer(selected, maps, name))
        ]
        groups = max(mask.shape[1] for mask in masks)
        return torch.cat([mask.expand(-1, groups, -1, -1) for mask in masks], 1)
    if isinstance(selected, list | tuple) and selected and hasattr(selected[0], "shape"):
        if len(selected) > 1:
            refuse(name, f"holds {len(selected)} layers and the weights are of one", f"give its own, e.g. {name}[0]")
        selected = selected[0]
    tensor = _tensor(selected, name).to(maps.weights.device)
    length = maps.length
    if tensor.dim() == 5:
        refuse(name, f"has shape {_words(tensor.shape)} and the weights are of one layer", f"give {name}[layer]")
    if tensor.is_floating_point() or tensor.is_complex():
        refuse(name, f"is {tensor.dtype}", "give a bool mask (mask > 0), or integer indices of keys")
    is_mask = tensor.dtype == torch.bool
    wanted = "[S, S]" if is_mask else "[S, k]"
    if tensor.dim() not in (2, 3, 4):
        refuse(name, f"has shape {_words(tensor.shape)}", f"give {wanted}, with leading heads or batch or both")
    if tensor.shape[-2] != length or (is_mask and tensor.shape[-1] != length):
        refuse(name, f"has shape {_words(tensor.shape)}", f"give [..., {length}, {length if is_mask else 'k'}]")
    grouped = _grouped(tensor, maps, name)
    if not is_mask:
        grouped = _check_indices(grouped, maps, name)
    mask = selection_mask(grouped, length).expand(maps.batch, -1, -1, -1)
    later = mask & ~maps.eligible
    if bool(later.any()):
        item, head, query, key = later.nonzero()[0].tolist()
        where = f" (sample {item}, head {head})" if maps.batch > 1 or mask.shape[1] > 1 else ""
        reason = f"lets query {query} select key {key}, after it{where}, and {int(later.sum()) - 1} more such"
        refuse(name, reason, "combine the mask with the causal one (mask & ones.tril()), or fill indices with -1")
    return mask


def as_token_ids(tokens: object, batch: int, length: int, name: str = "tokens") -> torch.Tensor:
    """Token ids or texts as ids, [batch, S], int64, on the CPU; equal ids where tokens are equal.

    Args:
        tokens: Ids or strings, [S] for all samples or [batch, S]; nested lists, torch or numpy.
        batch: Samples.
        length: Tokens of each, S.
        name: What messages call the tokens.

    Raises:
        ValueError: A string that is not split into tokens, or a shape that does not fit.
    """
    if isinstance(tokens, str):
        refuse(name, "is one string", f"split it into its {length} tokens, e.g. tokenizer.tokenize(text)")
    values = tokens.detach().cpu().numpy() if isinstance(tokens, torch.Tensor) else _array(tokens, name)
    if values.shape not in ((length,), (batch, length), (1, length)):
        refuse(name, f"has shape {_words(values.shape)}", f"give [{length}] or [{batch}, {length}], one token a key")
    if values.dtype.kind not in "iuUT":
        refuse(name, f"holds {values.dtype}", "give integer ids or strings")
    if values.dtype.kind not in "iu":
        values = np.unique(values.astype(str), return_inverse=True)[1].reshape(values.shape)
    ids = torch.from_numpy(np.ascontiguousarray(values.astype(np.int64)))
    return ids.reshape(-1, length).expand(batch, -1)


def token_texts(tokens: object, batch: int, length: int, name: str = "tokens") -> list[list[str]] | None:
    """Texts of tokens by sample, with the space that leads them; None where ids were given.

    Marks of byte-level and sentence-piece vocabularies (Ġ, ▁, Ċ) become the white space that they stand for.
    """
    as_token_ids(tokens, batch, length, name)
    if isinstance(tokens, torch.Tensor):
        return None
    values = _array(tokens, name)
    if values.dtype.kind in "iu":
        return None
    rows = np.broadcast_to(values.reshape(-1, length), (batch, length))
    return [[_plain(str(text)) for text in row] for row in rows]


def whole(value: object, name: str, least: int, below: int) -> int:
    """A whole number in a range.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= int(value) < below:
        refuse(name, f"is {value}", f"give a whole number from {least} to {below - 1}")
    return int(value)


def _plain(text: str) -> str:
    return text.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n").replace("ĉ", "\t")


def _array(tokens: object, name: str) -> NDArray[Any]:
    try:
        return np.asarray(tokens)
    except ValueError:
        refuse(name, "holds rows of different lengths", "give one token a key in every sample")


def _tensor(value: object, name: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray | list | tuple):
        try:
            return torch.from_numpy(np.ascontiguousarray(value))
        except (TypeError, ValueError):
            refuse(name, f"holds {np.asarray(value, dtype=object).dtype} values", "give numbers in a regular array")
    refuse(name, f"is {type(value).__name__}", "give a torch tensor or a numpy array")


def _check_values(maps: torch.Tensor, rank: int, name: str) -> None:
    # One look at sums finds NaN and infinity too: they spread to the sum of their row.
    sums = maps.sum(-1, dtype=torch.float32)
    if not bool(sums.isfinite().all()):
        where = _place((~maps.isfinite()).nonzero()[0].tolist(), rank)
        refuse(name, f"hold NaN or infinity, first at {where}", "mask before the softmax, or run in float32")
    if bool((maps < 0).any()):
        where = _place((maps < 0).nonzero()[0].tolist(), rank)
        refuse(name, f"hold negative weights, first at {where}", "give them after the softmax")
    missed = (sums - 1).abs()
    wrong = missed > sum_tolerance(maps, float(missed.max()))
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        found = f"{float(sums[tuple(place)]):.4g}"
        reason = f"have {int(wrong.sum())} rows that do not sum to 1, first {_place(place, rank)} with {found}"
        refuse(name, reason, "give weights after the softmax, without dropout, and cut off padding")


def _is_causal(maps: torch.Tensor, rank: int, causal: bool | None, name: str) -> bool:
    if causal is False or maps.shape[-1] == 1:
        return causal is not False
    future = torch.ones(maps.shape[-2:], dtype=torch.bool, device=maps.device).triu(1)
    leaking = ((maps > 0) & future).any(-1)
    if not bool(leaking.any()):
        return True
    # The last query has nothing after it.
    share = float(leaking[..., :-1].float().mean())
    if causal is None and share >= 0.5:
        return False
    place = leaking.nonzero()[0].tolist()
    reason = f"put weight on keys after the query in {share:.0%} of the rows, first {_place(place, rank)}"
    remedy = "mask the future before the softmax, or say causal=False if the model may see it"
    refuse(name, reason, remedy)


def _grouped(tensor: torch.Tensor, maps: Maps, name: str) -> torch.Tensor:
    """With dimensions for batch and groups of heads, [batch or 1, 1 or heads, S, ...]."""
    lead = tuple(tensor.shape[:-2])
    if tensor.dim() == 2:
        return tensor[None, None]
    if tensor.dim() == 3:
        if maps.batched and lead[0] in (1, maps.batch):
            return tensor[:, None]
        if lead[0] in (1, maps.heads):
            return tensor[None]
    elif lead[0] in (1, maps.batch) and lead[1] in (1, maps.heads):
        return tensor
    have = f"{maps.batch} samples of {maps.heads} heads"
    remedy = f"give one selection in all, a sample or a head; of several layers this one's, e.g. {name}[0]"
    refuse(name, f"has shape {_words(tensor.shape)} for {have}", remedy)


def _by_layer(selected: object, maps: Maps, name: str) -> Sequence[object]:
    """One selection a layer; the same one for each where it has no dimension for layers.

    What could be layers and something else is layers, but for three dimensions that are as many as the samples.
    """
    count = maps.layers
    if isinstance(selected, list | tuple) and selected and hasattr(selected[0], "shape"):
        if len(selected) != count:
            refuse(name, f"holds {len(selected)} layers and the weights {count}", "give one selection a layer")
        return selected
    tensor = _tensor(selected, name)
    lead = tuple(tensor.shape[:-2])
    samples = maps.batch if maps.batched else 0
    layered = (
        len(lead) > 0
        and lead[0] == count
        and (len(lead) == 3 or count != samples or (len(lead) == 2 and lead[1] == samples))
    )
    if len(lead) == 3 and not layered:
        refuse(name, f"has shape {_words(tensor.shape)} for {count} layers", "give one selection a layer")
    return tensor.unbind(0) if layered else [selected] * count


def _check_indices(indices: torch.Tensor, maps: Maps, name: str) -> torch.Tensor:
    length = maps.length
    if indices.numel() and not -1 <= int(indices.min()) <= int(indices.max()) < length:
        reason = f"holds keys {int(indices.min())} to {int(indices.max())}"
        refuse(name, reason, f"give keys 0 to {length - 1}, or -1 for none")
    if indices.shape[-1] == length > 2 and int(indices.max()) == 1 and int(indices.min()) == 0:
        refuse(name, "looks like a mask of 0 and 1", "give it as bool (mask.bool()); integers are indices of keys")
    if not maps.causal:
        return indices
    query = torch.arange(length, device=indices.device)[:, None]
    short = query + 1 < indices.shape[-1]
    return torch.where(short & (indices > query), -1, indices)


def _place(place: Sequence[int], rank: int) -> str:
    """In words where a map, a row or a weight is, in the dimensions that the user gave."""
    names = ("sample", "head", "query", "key")[: len(place)]
    return " ".join(f"{name} {at}" for name, at in list(zip(names, place, strict=True))[4 - rank :])


def _words(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def refuse(where: str, reason: str, remedy: str) -> NoReturn:
    """One ValueError that says what is wrong with what, and what to give instead."""
    raise ValueError(f"{where} {reason}; {remedy}")
