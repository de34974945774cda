"""One module may be watched by several threads at once, and nothing of it or of torch is left changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn

from indexscope.analysis.capture import TracedModel
from indexscope.analysis.capture.watching.held import evaluated, plain_torch
from tests.analysis.capture.plain_modules import VOCABULARY, Plain, Told


def overlapping(
    first: Callable[[], AbstractContextManager[None]], second: Callable[[], AbstractContextManager[None]]
) -> None:
    """Enter one context, then another in a second thread, and leave the first before the second."""
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with second():
            entered.set()
            assert left.wait(10)

    thread = threading.Thread(target=other)
    with first():
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join()


def test_what_is_set_for_all_of_torch_is_put_back_by_the_last_to_leave() -> None:
    stance = torch._dynamo.eval_frame._stance.stance
    assert torch.backends.mha.get_fastpath_enabled()
    overlapping(lambda: plain_torch, lambda: plain_torch)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch._dynamo.eval_frame._stance.stance == stance


def test_parts_shared_by_two_modules_train_on_after_both() -> None:
    part = nn.Linear(2, 2)
    first, second = nn.Sequential(part), nn.Sequential(part, nn.Dropout())
    second[1].eval()
    overlapping(lambda: evaluated(first), lambda: evaluated(second))
    assert first.training and second.training and part.training
    assert not second[1].training


class Remembering(Plain):
    """Keeps a forward's length on itself until its end, as modules do that share a selection."""

    def forward(self, input_ids: torch.Tensor):
        self.length = input_ids.shape[1]
        logits = super().forward(input_ids)
        threading.Event().wait(0.002)  # lets other threads go on
        assert self.length == input_ids.shape[1], "another thread came between"
        return logits


@pytest.mark.parametrize("traced", [False, True])
def test_threads_run_one_model_one_after_another_however_often_it_is_wrapped(traced: bool) -> None:
    model = Remembering().train()
    handed = Told(model) if traced else model
    sources = [TracedModel(handed), TracedModel(handed)]
    lengths = [20 + place for place in range(12)]

    def run(place: int) -> torch.Tensor:
        ids = torch.arange(lengths[place]).remainder(VOCABULARY).unsqueeze(0)
        return sources[place % 2].trace(ids).logits

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(len(lengths))))
    for place, logits in enumerate(found):
        assert torch.equal(logits, run(place))
    assert all(part.training for part in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()
