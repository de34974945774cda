"""How long a study's sequences are by default, and what is told before a model runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from indexscope.flows.study.lengths import cut, effect_warnings
from indexscope.storage.inputs.checkpoints import CheckpointInfo, describe
from indexscope.storage.inputs.dataset_settings import DatasetSettings
from indexscope.storage.inputs.packing import Packer, TokenDocument
from indexscope.storage.inputs.samples import Sample
from tests.flows.conftest import run_command
from tests.tiny import save_model

DENSE = CheckpointInfo("llama", None, 0, 0, (), 2, 32, 2, 300, 32768, None, None, None, None)
AUTO = DatasetSettings(samples=64)


def selecting(keys: int, positions: int | None = 163_840) -> CheckpointInfo:
    return replace(DENSE, max_positions=positions, selects_all_of=keys)


def lengths(settings: DatasetSettings, models: dict[str, CheckpointInfo], tokens: int = 10**6) -> tuple[int, str]:
    """The length that is chosen for a stream of so many tokens, and what is said of it."""

    def load(chosen: DatasetSettings) -> list[Sample]:
        packer = Packer(chosen.length, None)
        pieces = [*packer.add(TokenDocument("all", tuple(range(tokens)), True)), *packer.rest()]
        return [Sample(place, piece.name, piece.input_ids) for place, piece in enumerate(pieces)][: chosen.samples]

    found = cut(settings, models, load)
    assert max(len(sample.input_ids) for sample in found.samples) == min(found.settings.length, tokens)
    return found.settings.length, " ".join(found.notes)


def test_sequences_are_four_times_as_long_as_the_largest_selection() -> None:
    length, note = lengths(AUTO, {"base": selecting(2048), "light": selecting(1024), "dense": DENSE})
    assert length == 8192
    assert note == "dataset.max_length: 8,192 tokens, 4 times the 2,048 that base selects; set it to choose another"


def test_what_the_user_says_goes() -> None:
    assert lengths(DatasetSettings(max_length=100), {"base": selecting(2048)}) == (100, "")


@pytest.mark.parametrize("models", [{"dense": DENSE}, {"base": selecting(64)}, {"base": selecting(128)}])
def test_small_selections_and_dense_models_take_512_tokens_and_nothing_is_told(
    models: dict[str, CheckpointInfo],
) -> None:
    assert lengths(AUTO, models) == (512, "")


def test_the_positions_of_the_model_with_the_fewest_are_a_limit() -> None:
    length, note = lengths(AUTO, {"base": selecting(2048), "short": selecting(64, 4096)})
    assert length == 4096 and "all the positions that the models have" in note
    assert lengths(AUTO, {"dense": replace(DENSE, max_positions=128)}) == (128, "")


def test_few_data_are_not_made_into_a_handful_of_long_samples() -> None:
    # Of 40,000 tokens: 5 samples of 8,192, 10 of 4,096, 20 of 2,048.
    length, note = lengths(AUTO, {"base": selecting(2048)}, tokens=40_000)
    assert length == 2048
    assert "at 8,192 (4 times the 2,048 that base selects) the data make only 5 samples" in note
    assert lengths(AUTO, {"base": selecting(2048)}, tokens=600)[0] == 512
    assert lengths(DatasetSettings(samples=4), {"base": selecting(2048)}, tokens=40_000)[0] == 8192, "4 were asked for"


def test_documents_that_are_not_joined_are_not_cut_shorter_for_nothing() -> None:
    documents = [Sample(place, "document", tuple(range(3000))) for place in range(3)]
    found = cut(AUTO, {"base": selecting(2048)}, lambda chosen: documents)
    assert found.settings.length == 8192


def test_what_makes_numbers_worthless_is_told_before_any_model_runs() -> None:
    samples = [Sample(0, "one", tuple(range(64))), Sample(1, "two", tuple(range(128)))]
    models = {"all": selecting(128), "hardly": selecting(100), "well": selecting(16), "dense": DENSE}
    everything, hardly = (line.replace("\u202f", " ") for line in effect_warnings(models, samples))
    assert everything.startswith("warning: The indexer of all selects everything")
    assert "dataset.max_length of 512 or more puts 75 % of the queries" in everything
    # 28 of 192 queries have more than 100 keys.
    assert hardly.startswith("warning: The indexer of hardly is in effect for 14.6 % of the queries")
    assert "dataset.max_length of 400" in hardly
    never = effect_warnings({"never": selecting(2048, 2048)}, samples)[0]
    assert never.endswith("It may select 2,048 keys, and the model takes no more than 2,048 tokens.")
    narrow = effect_warnings({"narrow": selecting(2048, 4096)}, samples)[0].replace("\u202f", " ")
    assert "dataset.max_length of 4,096 or more puts 50 % of the queries" in narrow


def test_the_plan_tells_a_selection_of_everything_and_its_length(folder: Path) -> None:
    told = run_command("study", folder / "study.yaml", "--dry-run", "--set", "dataset.max_length=8")
    warned = [line for line in told.out if line.startswith("warning: ")]
    assert [line.split(":")[1].split(" selects")[0] for line in warned] == [
        " The indexer of base",
        " The indexer of light",
    ]
    assert "dataset.max_length of 32 or more" in warned[0]
    assert not [line for line in run_command("study", folder / "study.yaml", "--dry-run").out if "warning" in line]


def test_a_study_in_which_everything_is_selected_has_a_report_that_says_so(folder: Path) -> None:
    few = ("--set", "dataset.samples=6", "--set", "candidates=[]")
    run = run_command("study", folder / "study.yaml", "--set", "dataset.max_length=8", *few)
    assert run.code == 0, run.err
    assert sum("selects everything" in line for line in run.err) == 1
    assert (folder / "reports" / "tiny" / "report.html").is_file()


def test_a_checkpoint_with_the_real_budget_gets_its_length_by_default(tmp_path: Path) -> None:
    save_model(tmp_path / "base", heads=2, seed=0)
    config = tmp_path / "base" / "config.json"
    config.write_text(config.read_text().replace('"index_topk": 8', '"index_topk": 2048'))
    assert describe(tmp_path / "base").selects_all_of == 2048
