"""Out of memory: the chunk is halved, the batch starts again, nothing is counted twice, and the user is told."""

from __future__ import annotations

import os
import subprocess
import sys

import polars as pl
import pytest
import torch

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.features import attempt, extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa, tiny_llama

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 17179869184 bytes."),
    MemoryError(),
]
SAMPLES = [Sample(i, f"s{i}", tuple((7 * i + 3 * j) % 97 for j in range(90))) for i in range(3)]


class _Small(CapturedModel):
    """A model that runs out of memory above a chunk size, in the middle of a batch."""

    def __init__(self, model, most: int, error: Exception) -> None:
        super().__init__(model)
        self.most, self.error = most, error
        self.asked: list[int] = []

    def run(self, input_ids, observer, chunk, *arguments, **options):
        self.asked.append(chunk)
        for number, result in enumerate(super().run(input_ids, observer, chunk, *arguments, **options)):
            yield result
            if chunk > self.most and number == 0:
                raise self.error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_tables_after_halving_are_those_of_the_smaller_chunk(error: Exception) -> None:
    settings = ExtractSettings(chunk=64, dense_reference=False)
    small, journal = _Small(tiny_dsa(), 20, error), Journal(lambda _: None)
    found = extract_samples(small, SAMPLES, settings, journal)
    expected = extract_samples(tiny_dsa(), SAMPLES, settings.model_copy(update={"chunk": 16}))
    assert found.keys() == expected.keys()
    assert all(found[name].equals(expected[name]) for name in expected)
    # What was too large once is not tried for the next batches.
    assert small.asked == [64, 32, 16, 16, 16]
    assert journal.chunks == {16}
    assert journal.notes == [
        "out of memory at 90 tokens with chunk 64; going on with chunk 32",
        "out of memory at 90 tokens with chunk 32; going on with chunk 16",
    ]


def test_a_chunk_longer_than_the_sequence_is_halved_from_the_sequence() -> None:
    small = _Small(tiny_dsa(), 50, MemoryError())
    samples = [Sample(0, "a", tuple(range(60)))] * 2
    # The first chunk holds the whole sequence, so that 256, 128 and 64 would be one and the same.
    extract_samples(small, samples, ExtractSettings(chunk=256, dense_reference=False), Journal(lambda _: None))
    assert small.asked == [256, 30, 30]


def test_below_16_queries_it_gives_up_in_one_line() -> None:
    small = _Small(tiny_dsa(), 4, MemoryError())
    with pytest.raises(IndexscopeError) as caught:
        extract_samples(small, SAMPLES[:1], ExtractSettings(chunk=24), Journal(lambda _: None))
    assert small.asked == [24, 16]
    line = str(caught.value)
    assert line.startswith("sample 0 (s0): does not fit into memory: 1 x 90 tokens, 16 queries at a time; ")
    for remedy in ("shorter sequences", "extract.batch 1", "fewer workers"):
        assert remedy in line


def test_other_errors_are_not_taken_for_full_memory() -> None:
    small = _Small(tiny_dsa(), 4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        extract_samples(small, SAMPLES[:1], ExtractSettings(chunk=24))
    assert small.asked == [24]


def test_auto_takes_what_fits_and_does_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    journal, settings = Journal(), ExtractSettings()
    assert settings.chunk == "auto"
    roomy = extract_samples(tiny_llama(), SAMPLES, settings, journal)
    assert journal.chunks == {256}
    monkeypatch.setattr(attempt, "available_bytes", lambda _: 1 << 20)
    tight = extract_samples(tiny_llama(), SAMPLES, settings, journal)
    assert journal.chunks == {16, 256}
    assert journal.notes == []
    assert roomy["tokens"].drop(pl.selectors.float()).equals(tight["tokens"].drop(pl.selectors.float()))
    difference = (roomy["tokens"]["nll"] - tight["tokens"]["nll"]).abs().max()
    assert difference is not None
    assert difference < 1e-4


REAL = """
import resource
import torch
from indexscope.analysis import free_memory
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.kernels import block
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa

torch.set_num_threads(1)
model = tiny_dsa(layers=1, heads=32)
extract_samples(model, [Sample(0, "a", tuple(range(40)))], ExtractSettings(chunk=8))
SAMPLE = Sample(0, "a", tuple(i % 97 for i in range(500)))


def limited(megabytes):
    block._spare.clear()
    journal = Journal(lambda _: None)
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        assert free_memory.available_bytes(torch.device("cpu")) <= megabytes * 2**20
        extract_samples(model, [SAMPLE], ExtractSettings(chunk=256, dense_reference=False), journal)
        outcome = ["done", *journal.notes]
    except Exception as error:
        outcome = [type(error).__name__, str(error)]
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(megabytes, *outcome, flush=True)
    return outcome


# What one attempt takes may change, so the limit at which halving helps is searched for.
low, high = 2, 512
assert limited(low)[0] != "done" and limited(high) == ["done"]
while high - low > 1:
    middle = (low + high) // 2
    outcome = limited(middle)
    if outcome[0] == "done" and len(outcome) > 1:
        break
    low, high = (low, middle) if outcome[0] == "done" else (middle, high)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_real_limit_is_survived_and_a_hopeless_one_is_one_error() -> None:
    command = [sys.executable, "-c", REAL]
    # Large blocks go back to the system at once, so that one attempt leaves the next what it had.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("2 IndexscopeError sample 0 (a): does not fit into memory: 1 x 500 tokens")
    for line in lines:
        assert " done" in line or " IndexscopeError sample 0 (a): does not fit" in line
    assert "done out of memory at 500 tokens with chunk 256; going on with chunk 128" in lines[-1]
