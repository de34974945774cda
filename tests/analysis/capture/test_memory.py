"""The chunk that fits: the rule, the estimate against real peaks, and the machine's own numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.memory import (
    LARGEST,
    MOST_PAIRS,
    SHARE,
    SMALLEST,
    Widths,
    choose_chunk,
    fixed_bytes,
    halved,
    plain_bytes,
    query_bytes,
)
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.capture.widths import widths_of
from indexscope.analysis.free_memory import available_bytes, control_group
from indexscope.analysis.settings import ExtractSettings
from indexscope.errors import is_out_of_memory

CPU = torch.device("cpu")
widths = st.builds(
    Widths,
    heads=st.integers(1, 128),
    indexer_heads=st.integers(0, 64),
    key_value_width=st.integers(2, 512),
    cached_bytes=st.integers(0, 1 << 20),
    vocabulary=st.integers(2, 300_000),
    blocked=st.booleans(),
)


@given(widths, st.integers(0, 1 << 40), st.integers(1, 16), st.integers(1, 1 << 20))
def test_the_chunk_is_the_largest_power_of_two_that_fits_and_is_of_use(
    model: Widths, available: int, batch: int, length: int
) -> None:
    chunk = choose_chunk(available, model, batch, length)
    assert chunk in (16, 32, 64, 128, 256)
    room = SHARE * available - fixed_bytes(model, batch, length)
    assert chunk == SMALLEST or chunk * query_bytes(model, batch, length) <= room
    enough = 2 * chunk * length > MOST_PAIRS
    assert chunk == LARGEST or enough or 2 * chunk * query_bytes(model, batch, length) > room


@given(widths, st.integers(0, 1 << 40), st.integers(1, 16), st.integers(1, 1 << 20))
def test_more_memory_or_less_to_do_never_makes_the_chunk_smaller(
    model: Widths, available: int, batch: int, length: int
) -> None:
    chunk = choose_chunk(available, model, batch, length)
    assert choose_chunk(2 * available, model, batch, length) >= chunk
    assert choose_chunk(available, model, batch + 1, length) <= chunk
    assert choose_chunk(available, model, batch, 2 * length) <= chunk


@given(st.integers(1, 4096), st.integers(1, 1 << 20))
def test_halving_ends_at_16_and_each_try_is_smaller(chunk: int, length: int) -> None:
    tries = [chunk]
    while (smaller := halved(tries[-1], length)) is not None:
        assert SMALLEST <= smaller < min(tries[-1], length)
        tries.append(smaller)
    assert len(tries) < 14


def test_widths_are_those_of_the_model(dsa, llama) -> None:
    # MLA caches keys and values of every head: 4 heads x (16 + 8 + 12) numbers x 4 bytes x 3 layers.
    assert widths_of(CapturedModel(dsa)) == Widths(4, 8, 36, 3 * 4 * 36 * 4, 97, blocked=True)
    # Two key heads of 12 + 12 numbers in two layers.
    assert widths_of(CapturedModel(llama)) == Widths(4, 0, 24, 2 * 2 * 24 * 4, 97, blocked=True)


PEAK = """
import os
import sys
import torch
from transformers import DeepseekV32Config, DeepseekV32ForCausalLM, LlamaConfig, LlamaForCausalLM
from indexscope.analysis.capture import CapturedModel, own_attention
from indexscope.analysis.capture.memory import fixed_bytes, plain_bytes, query_bytes
from indexscope.analysis.capture.widths import widths_of
from indexscope.analysis.features import extract_samples
from indexscope.analysis.free_memory import available_bytes, control_group
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
torch.set_num_threads(1)
# A process for each case, which has the imports of this one and nothing that another case left.
for case in sys.argv[1:]:
    if not (child := os.fork()):
        break
    assert not os.waitpid(child, 0)[1]
else:
    sys.exit()
kind, length, chunk = case.split(",")[0], *map(int, case.split(",")[1:])
if kind == "indexer":
    model = DeepseekV32ForCausalLM(DeepseekV32Config(
        vocab_size=2048, hidden_size=96, intermediate_size=128, moe_intermediate_size=32, num_hidden_layers=2,
        first_k_dense_replace=2, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=32, kv_lora_rank=24,
        qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=4, n_group=1, topk_group=1,
        num_experts_per_tok=1, max_position_embeddings=65536, index_topk=64, index_n_heads=16, index_head_dim=16))
else:
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=2048 if kind == "heads" else 80000, hidden_size=96, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=16 if kind == "heads" else 2, num_key_value_heads=2, max_position_embeddings=65536))
model.eval()
ids = torch.randint(2048, (length,), generator=torch.Generator().manual_seed(0)).tolist()
extract_samples(model, [Sample(0, "a", tuple(ids[:64]))], ExtractSettings(chunk=16))
widths = widths_of(CapturedModel(model))

def size(name):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name))

open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = size("VmRSS")
if chunk:
    extract_samples(model, [Sample(0, "a", tuple(ids))], ExtractSettings(chunk=chunk))
    estimate = chunk * query_bytes(widths, 1, length) + fixed_bytes(widths, 1, length)
else:
    with own_attention(model), torch.inference_mode():
        model(input_ids=torch.tensor([ids]), use_cache=False)
    estimate = plain_bytes(widths, length)
print(case, (size("VmHWM") - before) / estimate, flush=True)
"""


#: Kind of model, length, queries at a time; 0 for the plain forward.
MEASURED = ("indexer,4096,64", "heads,2048,128", "vocabulary,1024,128", "indexer,2048,0")


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    """The measured peak of each case as a share of the estimate."""
    done = subprocess.run([sys.executable, "-c", PEAK, *MEASURED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return {case: float(share) for case, share in map(str.split, done.stdout.splitlines())}


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be measured here")
@pytest.mark.parametrize("case", MEASURED)
def test_estimate_holds_against_the_measured_peak(measured: dict[str, float], case: str) -> None:
    share = measured[case]
    # Choosing plans with half the memory, so that an estimate off by a half is still safe; the C library's own
    # leftovers differ from run to run.
    assert 0.08 < share < 1.5


def test_available_memory_is_below_what_the_machine_has() -> None:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_bytes(CPU) <= pages * size


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("mounted", [True, False])
def test_a_container_s_limit_counts_and_its_file_cache_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, mounted: bool
) -> None:
    root = tmp_path / ("memory" if version == 1 else "")
    folder = root if mounted else root / "box" / "inner"
    folder.mkdir(parents=True, exist_ok=True)
    limit, used, cache = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if version == 1
        else ("memory.max", "memory.current", "inactive_file")
    )
    (folder / limit).write_text("1000\n")
    (folder / used).write_text("700\n")
    (folder / "memory.stat").write_text(f"anon 5\n{cache} 200\n")
    groups = tmp_path / "groups"
    groups.write_text("4:memory:/box/inner\n1:cpu:/\n" if version == 1 else "0::/box/inner\n")
    assert control_group(groups, tmp_path) == 500
    (folder / limit).write_text("max\n" if version == 2 else "9223372036854771712\n")
    unlimited = control_group(groups, tmp_path)
    assert unlimited is None or unlimited > 1 << 60


def test_profile_leaves_out_lengths_that_do_not_fit_and_says_so(dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    room = plain_bytes(widths_of(CapturedModel(dsa)), 100)
    monkeypatch.setattr("indexscope.analysis.capture.profile.available_bytes", lambda _: room)
    journal = Journal(lambda _: None)
    settings = ExtractSettings(profile_lengths=(32, 64, 256, 1024), profile_repeats=1)
    profile = profile_model(dsa, settings, journal)
    assert sorted(set(profile["length"])) == [32, 64]
    too_large, too_long = journal.notes
    assert re.fullmatch(r"no latency at 256 tokens: it would take \d+ MiB of 33 MiB", too_large)
    assert too_long == "no latency at 1024 tokens: the model's positions end at 512"


def test_profile_survives_running_out_of_memory_at_one_length(dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = type(dsa).forward

    def fail(self, input_ids=None, **options):
        if input_ids.shape[1] == 64:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(dsa), "forward", fail)
    journal = Journal(lambda _: None)
    profile = profile_model(dsa, ExtractSettings(profile_lengths=(32, 64, 96), profile_repeats=1), journal)
    assert sorted(set(profile["length"])) == [32, 96]
    assert journal.notes == ["no latency at 64 tokens: out of memory"]


@pytest.mark.parametrize(
    ("error", "memory_ran_out"),
    [
        (torch.OutOfMemoryError("HIP out of memory."), True),
        (MemoryError("Unable to allocate 8.0 GiB for an array"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("Cannot allocate memory"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_full_memory_is_told_from_other_errors(error: Exception, memory_ran_out: bool) -> None:
    assert is_out_of_memory(error) == memory_ran_out


def test_real_torch_and_numpy_failures_are_recognised() -> None:
    import numpy as np

    for allocate in (lambda: torch.empty(1 << 56), lambda: np.empty(1 << 56)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
