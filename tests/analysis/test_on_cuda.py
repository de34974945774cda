"""What only a GPU decides, on a pretended one: every family gives the CPU's numbers, and nothing mixes devices."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.features import extract_samples
from indexscope.analysis.free_memory import available_bytes
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from indexscope.storage.inputs.model_skeleton import resolve_device
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.pretended_cuda import CUDA, FREE, OnCuda, moved, pretended
from tests.analysis.samples import samples

SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6, sparsity_threshold=0.02)
CLOSE = CloseupSettings(queries=6, rerun_samples=0, removal_samples=0)


def quiet() -> Journal:
    return Journal(lambda _: None)


def same(here: Mapping[str, pl.DataFrame], there: Mapping[str, pl.DataFrame]) -> None:
    assert here.keys() == there.keys()
    for name, table in here.items():
        told = [column for column, kind in table.schema.items() if kind != pl.Binary]  # sketches are packed floats
        assert_frame_equal(table.select(told), there[name].select(told), rel_tol=1e-3, abs_tol=1e-5)


def test_the_pretended_device_refuses_what_cuda_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended(monkeypatch):
        there, here = torch.arange(4.0, device="cuda"), torch.arange(4.0)
        assert isinstance(there, OnCuda) and there.device == CUDA and (there + 1).device == CUDA
        assert torch.equal(there.cpu(), here) and torch.equal(here.to(CUDA).cpu(), here)
        for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        for bare in (there.numpy, lambda: torch.from_numpy(there.numpy())):
            with pytest.raises(TypeError, match="numpy"):
                bare()
        assert there[torch.tensor([1])].item() == 1, "an index on the CPU is taken"
        assert resolve_device("auto") == "cuda" and available_bytes(CUDA) == FREE


@pytest.mark.parametrize("family", [*FAMILIES, "dense"])
def test_features_and_close_up_of_every_family_are_those_of_the_cpu(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = FAMILIES.get(family, tiny_llama)
    again = family == "deepseek_v32"  # one shows what the runs after the close-up do
    some = samples(*(40, 33) if again else (40,))
    close = CLOSE.model_copy(update={"rerun_samples": 1, "removal_samples": 1}) if again else CLOSE

    def tables(model: torch.nn.Module) -> dict[str, pl.DataFrame]:
        features = extract_samples(model, some, SETTINGS, quiet())
        return {**features, **closeup_samples(model, some, close, SETTINGS, quiet())}

    here = tables(build())
    with pretended(monkeypatch):
        there = tables(moved(build()))
    same(here, there)


def test_audit_and_profile_run_there(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"profile_lengths": (16, 32), "profile_repeats": 2})
    here = audit_causality(tiny_dsa(), [samples(40)[0].input_ids])
    with pretended(monkeypatch):
        there = audit_causality(moved(tiny_dsa()), [samples(40)[0].input_ids])
        profile = profile_model(moved(tiny_dsa()), settings, quiet())
    assert_frame_equal(here, there)
    assert set(profile["length"]) == {16, 32} and (profile["milliseconds"] > 0).all()
