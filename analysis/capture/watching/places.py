"""In which modules of a stranger's model the attention and the indexer are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from indexscope.analysis.capture.watching.calls import WatchCalls
from indexscope.analysis.capture.watching.module import attentions_of
from indexscope.analysis.capture.watching.stack import Call

NAME, CLASS = "indexer", "Indexer"
_NULL = "time, memory, operations and parameters of"


def attentions_in(whole: nn.Module, watch: WatchCalls) -> tuple[list[nn.Module], str | None]:
    """The innermost module around each attention, once each; none, and why, where one is in no module of its own.

    Args:
        whole: The model.
        watch: What was seen of a forward, with its stack.
    """
    own = [_innermost(whole, each.around) for each in attentions_of(watch)]
    beyond = _embedding(whole, watch)
    for module in own:
        if module in beyond:
            kind = type(module).__name__
            return [], f"attention is computed by {kind} itself, in no module of its own: {_NULL} attention are null"
    return outermost(own), None


def indexers_in(whole: nn.Module, watch: WatchCalls) -> tuple[list[nn.Module], str | None]:
    """The indexers: modules of that name or class, else the innermost ones around each topk that gave a selection.

    A module that attends is no indexer, whatever it is called. None, and why, where there is no module of its own.
    """
    attentions = attentions_of(watch)
    attending = {call.module for each in attentions for call in each.around} | _embedding(whole, watch)
    named = [module for module in _named(whole) if module not in attending]
    if named:
        return outermost(named), None
    own = [_innermost(whole, each.pick.around) for each in attentions if each.pick is not None]
    for module in own:
        if module in attending:
            kind = type(module).__name__
            within = f"{_NULL} the indexer are null, and within those of attention"
            return [], f"its topk is called by {kind}, which attends itself: {within}"
    return outermost(own), None if own else f"no topk of its selection is seen: {_NULL} the indexer are null"


def outermost(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Modules once each, without those inside another of them."""
    once = list(dict.fromkeys(modules))
    inside = {part for module in once for part in module.modules() if part is not module}
    return [module for module in once if module not in inside]


def _named(whole: nn.Module) -> list[nn.Module]:
    """Modules that are called an indexer; lists of modules have no forward and are none."""
    found = whole.named_modules(remove_duplicate=False)  # one that is shared may be an indexer by its second name only
    called = [module for name, module in found if name.rpartition(".")[2] == NAME or CLASS in type(module).__name__]
    return [module for module in called if not isinstance(module, nn.ModuleList | nn.ModuleDict)]


def _innermost(whole: nn.Module, around: Sequence[Call]) -> nn.Module:
    return around[-1].module if around else whole


def _embedding(whole: nn.Module, watch: WatchCalls) -> set[nn.Module]:
    """The modules that make tokens of ids: the whole model, and whatever stands around it."""
    return {whole, *(call.module for call in watch.embedded)}
