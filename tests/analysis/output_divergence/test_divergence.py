"""Claims about two models' predictions side by side, against whole logits in float64."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture import own_attention
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import closeup_queries
from indexscope.analysis.comparison.compare import combine, compare
from indexscope.analysis.comparison.gates import evaluate
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.output_divergence.collect import prediction_collector
from indexscope.analysis.output_divergence.metrics import FAMILY
from indexscope.analysis.output_divergence.run import run
from indexscope.analysis.output_divergence.tables import UNITS
from indexscope.analysis.settings import ComparisonSettings, ExtractSettings
from indexscope.errors import IndexscopeError
from tests.analysis.comparison.test_gates import Gate
from tests.analysis.conftest import sharpened, tiny_dsa
from tests.analysis.output_divergence.distributions import normal, stored, together, tokens
from tests.analysis.samples import samples

SETTINGS = ComparisonSettings(resamples=200)
QUERIES = 12
SAMPLES = samples(60, 50, 40, 60, 44, 52, 61, 48, 57)
CLASSES = (np.arange(97) % 6).astype(np.int8)


def measured(model: torch.nn.Module, top: int) -> dict[str, pl.DataFrame]:
    source = as_source(model)  # type: ignore[arg-type]
    extract = ExtractSettings(chunk=16, device="cpu")
    attempt = Attempt(source, extract, Journal())
    looked = collect_samples(source, SAMPLES, [prediction_collector(top, CLASSES)], QUERIES, attempt)
    return {**extract_samples(source, SAMPLES, extract), **looked}


@pytest.fixture(scope="module")
def pair() -> list[torch.nn.Module]:
    """A model and the same one with other indexers, whose body is the same."""
    base, light = tiny_dsa(layers=2), tiny_dsa(layers=2)
    other = sharpened(tiny_dsa(layers=2), seed=7).state_dict()
    light.load_state_dict({key: other[key] if "indexer" in key else own for key, own in light.state_dict().items()})
    return [base, light]


@pytest.fixture(scope="module")
def models(pair: list[torch.nn.Module]) -> dict[str, dict[str, pl.DataFrame]]:
    return {name: measured(model, 4096) for name, model in zip(("base", "light"), pair, strict=True)}


@pytest.fixture(scope="module")
def found(models: dict[str, dict[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    return run(models, "base", SETTINGS)


def whole(model: torch.nn.Module, ids: torch.Tensor) -> np.ndarray:
    """Log-probabilities of a plain forward with the model's own attention, [length, vocabulary], float64."""
    with own_attention(model), torch.no_grad():  # type: ignore[arg-type]
        found: np.ndarray = model(ids).logits[0].double().log_softmax(-1).numpy()
    return found


def values(frame: pl.DataFrame, model: str = "light", against: str = "baseline") -> dict[str, float]:
    rows = frame.filter((pl.col("model") == model) & (pl.col("against") == against))
    return dict(rows.select("statistic", "value").iter_rows())


def test_every_statistic_is_that_of_the_models_whole_logits(
    pair: list[torch.nn.Module], found: dict[str, pl.DataFrame]
) -> None:
    parts, weights, truths, buckets = [], [], [], []
    for sample in SAMPLES:
        ids = torch.tensor([sample.input_ids])
        places, weight = closeup_queries(ids.shape[1], QUERIES, sample.index)
        parts.append([whole(model, ids)[places] for model in pair])
        following = [*sample.input_ids[1:], -1]
        truths += [following[place] for place in places]
        weights += weight.tolist()
        buckets += [int(math.log2(place + 1)) for place in places]
    base, light = (np.concatenate(own) for own in zip(*parts, strict=True))
    weight, truth = np.array(weights), np.array(truths)
    kl = (np.exp(base) * (base - light)).sum(-1)
    known = np.flatnonzero(truth >= 0)
    one, other = (own[known, truth[known]] for own in (base, light))
    change, counted = np.exp(other) - np.exp(one), weight[known]
    got = values(found["output_divergence"])
    assert np.average(kl, weights=weight) > 0.01, "the indexers select other keys"
    assert got["output_kl"] == pytest.approx(np.average(kl, weights=weight), rel=2e-3)
    assert got["output_kl_max"] == pytest.approx(kl.max(), rel=2e-3)
    repeated = np.repeat(kl, weight.astype(int))
    for name, level in {"output_kl_median": 0.5, "output_kl_p99": 0.99}.items():
        assert got[name] == pytest.approx(np.quantile(repeated, level, method="inverted_cdf"), rel=1e-2, abs=1e-6)
    same = base.argmax(-1) == light.argmax(-1)
    assert got["same_top_token"] == pytest.approx(np.average(same, weights=weight))
    assert got["probability_change"] == pytest.approx(np.average(change, weights=counted), abs=1e-6)
    assert got["probability_change_rms"] == pytest.approx(math.sqrt(np.average(change**2, weights=counted)), rel=1e-4)
    changes = np.repeat(change, counted.astype(int))
    assert got["probability_change_p10"] == pytest.approx(np.quantile(changes, 0.1, method="inverted_cdf"), abs=1e-6)
    covariance = np.cov(one, other, aweights=counted)
    expected = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
    assert got["log_perplexity_correlation"] == pytest.approx(expected, abs=1e-5)
    assert got["output_merged"] == 0.0
    rows = found["output_divergence_by"].filter((pl.col("model") == "light") & (pl.col("against") == "baseline"))
    bucket = np.array(buckets)
    for axis, groups, own in (("position", bucket, 3), ("token class", CLASSES[truth], 4)):
        kept = (groups == own) & ((axis == "position") | (truth >= 0))
        row = rows.filter((pl.col("axis") == axis) & (pl.col("bin") == own) & (pl.col("statistic") == "output_kl"))
        assert row["value"].item() == pytest.approx(np.average(kl[kept], weights=weight[kept]), rel=1e-2), axis
    for own in range(6):
        kept = CLASSES[truth[known]] == own
        is_ratio = (pl.col("axis") == "token class") & (pl.col("statistic") == "perplexity_ratio")
        ratio = rows.filter(is_ratio & (pl.col("bin") == own))["value"].item()
        expected = math.exp(np.average((one - other)[kept], weights=counted[kept]))
        assert ratio == pytest.approx(expected, rel=1e-4)


def test_perplexity_ratios_are_those_of_the_metrics_over_all_tokens(
    models: dict[str, dict[str, pl.DataFrame]], found: dict[str, pl.DataFrame]
) -> None:
    analysed = {name: combine({"d": distribution.run(own, DistributionSettings())}) for name, own in models.items()}
    rows = compare(analysed, "base", SETTINGS).filter(pl.col("layer").is_null())
    perplexity = rows.filter(pl.col("metric") == "perplexity").row(0, named=True)
    ratio = perplexity["value"] / perplexity["baseline"]
    assert values(found["output_divergence"])["perplexity_ratio"] == pytest.approx(ratio, rel=1e-9)
    difference = rows.filter(pl.col("metric") == "nll").row(0, named=True)
    row = found["output_divergence"].filter(
        (pl.col("against") == "baseline") & (pl.col("statistic") == "perplexity_ratio")
    )
    for bound in ("ci_low", "ci_high"):
        assert math.log(row[bound].item()) == pytest.approx(difference[bound], abs=1e-7), bound
    cost = rows.filter(pl.col("metric") == "sparsity_cost").row(0, named=True)
    for model, column in (("base", "baseline"), ("light", "value")):
        got = values(found["output_divergence"], model, "dense")
        assert got == {"perplexity_ratio": pytest.approx(math.exp(cost[column]), rel=1e-9)}


def test_a_model_beside_itself_changes_nothing(models: dict[str, dict[str, pl.DataFrame]]) -> None:
    got = run({"base": models["base"], "twin": models["base"]}, "base", SETTINGS)["output_divergence"]
    twin = got.filter((pl.col("model") == "twin") & (pl.col("against") == "baseline"))
    assert set(twin["statistic"]) == set(UNITS)
    exactly = dict.fromkeys(UNITS, 0.0) | dict.fromkeys(("perplexity_ratio", "same_top_token"), 1.0)
    for row in twin.iter_rows(named=True):
        wanted = pytest.approx(1.0) if row["statistic"] == "log_perplexity_correlation" else exactly[row["statistic"]]
        bounds = [row["value"], row["ci_low"], row["ci_high"]]
        assert bounds == [wanted, *([None] * 2 if row["statistic"] == "output_kl_max" else [wanted] * 2)]


def test_fewer_stored_tokens_give_a_lower_bound_and_say_how_much_is_merged(
    pair: list[torch.nn.Module], found: dict[str, pl.DataFrame]
) -> None:
    few = {name: measured(model, 60) for name, model in zip(("base", "light"), pair, strict=True)}
    got, full = values(run(few, "base", SETTINGS)["output_divergence"]), values(found["output_divergence"])
    assert 0.5 * full["output_kl"] < got["output_kl"] < full["output_kl"]
    assert 0 < got["output_merged"] < 0.5
    same = ("perplexity_ratio", "log_perplexity_correlation", "probability_change_rms", "same_top_token")
    assert {name: got[name] for name in same} == {name: full[name] for name in same}


def test_gates_name_what_only_a_candidate_has(found: dict[str, pl.DataFrame]) -> None:
    metrics = found["metrics"].rename({"candidate": "model"})
    assert set(metrics["metric"]) == {metric.name for metric in FAMILY.metrics}
    assert all(metric.paired for metric in FAMILY.metrics)
    assert set(metrics["model"]) == {"light"}
    value = values(found["output_divergence"])["output_kl"]
    rules = [f"output_kl.value <= {value * 1.01}", f"output_kl <= {value * 1.01} on upper", "same_top_token > 99.9 %"]
    compared = pl.DataFrame({"candidate": ["light"], "metric": ["nll"], "layer": [None]})
    rows = evaluate([Gate(rule, rule) for rule in rules], compared, metrics)
    assert rows["passed"].to_list() == [True, False, False]
    assert rows["value"][0] == value


@pytest.mark.parametrize("quantity", ["difference", "ratio"])
def test_a_gate_on_how_such_a_metric_differs_from_the_baselines_is_refused(quantity: str) -> None:
    compared = pl.DataFrame({"candidate": ["light"], "metric": ["nll"], "layer": [None]})
    with pytest.raises(IndexscopeError, match=r"compares with the baseline by itself; write output_kl\.value"):
        evaluate([Gate("kl", f"output_kl.{quantity} <= 0.01")], compared, pl.DataFrame())


def planted(seed: int, size: int = 50) -> dict[str, pl.DataFrame]:
    random = np.random.default_rng(seed)
    parts = [stored(normal(random.normal(0, 1, (6, size))), sample=sample) for sample in range(3)]
    return {"tokens": tokens([[1.0, 2.0]] * 3), "logits": together(*parts)}


def test_vocabularies_of_other_sizes_are_compared_where_they_can_be() -> None:
    got = run({"a": planted(0), "b": planted(1, 51)}, "a", SETTINGS)["output_divergence"]
    rows = got.filter(pl.col("against") == "baseline")
    lacking = rows.filter(pl.col("value").is_null())
    assert set(lacking["statistic"]) == {name for name in UNITS if name.startswith("output_")}
    assert all("vocabularies differ in size" in note for note in lacking["note"])
    assert rows.filter(pl.col("value").is_not_null())["note"].null_count() == rows.height - lacking.height


def test_without_probes_only_perplexity_is_compared_and_without_dense_references_not_with_those() -> None:
    own = {"tokens": tokens([[1.0, 2.0], [3.0, 1.0]], dense=None)}
    other = {"tokens": tokens([[1.5, 2.5], [3.5, 1.5]], dense=1.0)}
    got = run({"a": own, "b": other}, "a", SETTINGS)["output_divergence"]
    assert got.select("model", "against", "statistic").rows() == [
        ("b", "baseline", "perplexity_ratio"), ("b", "dense", "perplexity_ratio"),
    ]  # fmt: skip
    assert got["value"].to_list() == pytest.approx([math.exp(0.5), math.exp((0.5 + 2 * 1.5 + 2.5 + 2 * 0.5) / 6)])


def test_other_samples_queries_and_tokens_are_refused_in_one_line() -> None:
    base = planted(0)
    other = base["logits"].with_columns(next_token=pl.lit(3, dtype=pl.Int32))
    damaged = base["logits"].with_columns(log_probs=pl.lit(b"\x00"))
    for changed, reason in (
        ({"tokens": tokens([[1.0, 2.0]] * 2)}, "run on different samples .the first that differs is sample 2."),
        ({"logits": base["logits"].filter(pl.col("query") != 4)}, "3 queries were looked at in one model only"),
        ({"logits": other}, "saw other tokens .the first: sample 0, after query 0."),
        ({"logits": damaged}, "6 rows hold no distribution, the first is sample 0, query 0"),
        ({"logits": base["logits"].drop("rest")}, "lack the column rest"),
    ):
        with pytest.raises(IndexscopeError, match=reason) as refused:
            run({"a": base, "b": {**base, **changed}}, "a", SETTINGS)
        assert "\n" not in str(refused.value)
