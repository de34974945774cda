"""The table of families, held to what the tiny checkpoints really show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.capture.document import document
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.families import KNOWN, family_of
from indexscope.analysis.capture.layers import layer_facts
from tests.analysis.capture.test_families import model_of, padded
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, record, tokens

ROOT = Path(__file__).parents[3]


def test_the_documentation_is_up_to_date() -> None:
    """If this fails: python -m indexscope.analysis.capture.document > docs/families.md."""
    assert (ROOT / "docs" / "families.md").read_text(encoding="utf-8") == document()


def test_the_documentation_command_prints_it() -> None:
    command = [sys.executable, "-X", "utf8", "-m", "indexscope.analysis.capture.document"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", cwd=ROOT).stdout
    assert printed.splitlines() == document().splitlines()


def test_every_family_has_a_checkpoint_that_is_run() -> None:
    assert {family_of(model_of(name)).name for name in FAMILIES} == {family.name for family in KNOWN.values()}
    assert len(KNOWN) == 10


@pytest.mark.parametrize("name", FAMILIES)
def test_each_row_is_what_a_checkpoint_shows(name: str) -> None:
    model = model_of(name)
    row = family_of(model)
    _, seen = record(model, tokens(), LENGTH, head_scores=True)
    layers: list[AttentionChunk] = [chunk for (chunk,) in seen.values()]
    scoring = [chunk for chunk in layers if chunk.scores is not None]
    selecting = [chunk for chunk in layers if chunk.selected is not None]
    assert scoring
    for chunk in scoring:
        assert chunk.selected is not None
        assert ("token" if chunk.entries is None else chunk.entries.kind) == row.kind
        assert (chunk.chosen is None) == (row.kind == "token")
        assert (chunk.scores.ndim == 4) == row.grouped == (chunk.selected.shape[1] > 1)
        assert (chunk.head_scores is not None) == (chunk.head_weights is not None) == row.heads
    for chunk in selecting:
        assert (chunk.always is not None) == row.forced == (not row.always.startswith("nothing"))
        assert ("sink" in row.always) == (chunk.sinks is not None)
        assert (-1 in (chunk.positions.tolist() if chunk.positions is not None else [])) == (row.kind == "compressed")
    # Layers without scores of their own are told of, and so is why.
    shares, plain = len(scoring) < len(selecting), len(selecting) < len(layers)
    assert shares == ("share a selection" in row.nulls) == ("shar" in row.layers)
    assert plain == ("without an indexer" in row.nulls or "they have no indexer" in row.nulls)
    skipped = len(layers) < model.config.get_text_config().num_hidden_layers
    assert skipped == ("has no map" in row.layers)


@pytest.mark.parametrize("name", FAMILIES)
def test_left_padding_runs_in_as_many_chunks_as_the_row_says(name: str) -> None:
    model = model_of(name)
    _, seen = record(model, tokens(), 8, attention_mask=padded("left"))
    chunks = {len(pieces) for pieces in seen.values()}
    assert chunks == ({1} if "with left padding in one chunk" in family_of(model).chunked else {5})
    # Where the row says that padding has no effect, a padded sequence gives what it gives alone.
    alone, _ = record(model, tokens()[1:, 13:], LENGTH)
    beside, _ = record(model, tokens(), LENGTH, attention_mask=padded("left"))
    same = float((alone - beside[1:, 13:]).abs().max() / alone.abs().max()) < 1e-4
    assert same == (family_of(model).padding == "no effect")


@pytest.mark.parametrize("name", FAMILIES)
def test_latents_and_precision_are_facts_of_the_layers_and_the_family(name: str) -> None:
    model = model_of(name)
    facts, layers = model_facts(model).row(0, named=True), layer_facts(model)
    assert facts["indexer_precision"] == family_of(model).precision
    widths = set(layers.select("selects", "latent_key_width", "latent_value_width").rows())
    if name in ("deepseek_v4", "qwen4_exp", "minimax_m3"):  # attention without latents
        assert {row[1:] for row in widths} == {(None, None)}
        return
    # kv_lora_rank 24, and a rotary key of 8, which glm5_next and some layers of mistral_large4 do without.
    rotary = {"glm5_next": {0}, "mistral_large4": {0, 8}}.get(name, {8})
    sliding = {(False, 24, 16)} if name == "dots3_note" else set()
    assert widths == {(True, 24 + each, 24) for each in rotary} | sliding
