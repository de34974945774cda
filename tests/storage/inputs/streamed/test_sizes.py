"""What a layer is said to take is what the process is seen to take while it is loaded."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.inputs.streamed.sizes import sizes
from indexscope.storage.inputs.streamed.weights import StreamedWeights
from tests.storage.inputs.test_block_scaled import quantised

STATUS = Path("/proc/self/status")
SHAPE = {"vocab_size": 64, "hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16,
         "num_key_value_heads": 4}  # fmt: skip


def experts() -> PreTrainedModel:
    """Three layers of 48 MiB, nearly all of it experts."""
    config = Qwen3MoeConfig(**SHAPE, num_experts=32, num_experts_per_tok=2, moe_intermediate_size=512)
    return Qwen3MoeForCausalLM(config)


def dense() -> PreTrainedModel:
    """Three layers of 48 MiB."""
    return LlamaForCausalLM(LlamaConfig(**SHAPE, intermediate_size=16384))


def resident() -> int:
    """Bytes of this process that are in memory: its own, and of files that it has mapped."""
    told = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return sum(int(told[name].split()[0]) for name in ("RssAnon", "RssFile")) << 10


def most_during(work: Callable[[], None]) -> int:
    """What the process takes at most while it works, looked at all the time, beyond what it took before."""
    gc.collect()
    before, most, done = resident(), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, resident())

    looking = threading.Thread(target=look)
    looking.start()
    work()
    most = max(most, resident())
    done.set()
    looking.join()
    return most - before


@pytest.mark.skipif(not STATUS.exists(), reason="memory is looked at where /proc is")
@pytest.mark.parametrize(("make", "float8"), [(experts, False), (experts, True), (dense, False)])
def test_a_layer_takes_what_is_said_while_it_is_loaded(
    tmp_path: Path, make: Callable[[], PreTrainedModel], float8: bool
) -> None:
    torch.manual_seed(0)
    made = make().to(torch.bfloat16)
    made.save_pretrained(tmp_path)
    names = [one.name for file in tmp_path.glob("*.safetensors") for one in read_header(file).tensors]
    assert any("experts.31." in name for name in names) == (make is experts), "as such checkpoints are published"
    del made
    if float8:
        quantised(tmp_path, (128, 128))
    told = sizes(tmp_path, "bfloat16")
    weights = StreamedWeights(tmp_path, "bfloat16", "cpu")
    assert told.routed == (make is experts)
    assert told.largest == weights.bytes_of(weights.layers[1])
    weights.load(weights.layers[0])  # what is made once is made
    weights.drop(weights.layers[0])
    taken = most_during(lambda: weights.load(weights.layers[1]))
    assert taken / told.largest <= 1.25, "less where memory that was let go of before is taken again"
    assert told.streamed < 1.1 * told.largest, "embedding and head are small"
