"""Whether the statistics of comparisons keep their word: coverage, false alarms, power, and many metrics at once.

    python benchmarks/inference.py [--studies 2000] [--resamples 1000] [--save FILE.json]

Thousands of studies with a known truth are simulated and put through `comparison.compare.paired` and
`comparison.verdicts.with_verdicts`, as in a study; every simulated study is a column, and all share the resamples. A
sample has a difficulty that both models share, a difference of its own (standard deviation 0.2), and noise of its
tokens that falls with its length; difficulties and differences are normal, Student's t with 3 degrees of freedom, or
lognormal (both scaled to variance 1). Lengths are equal, or lognormal with log-sd 0.5 or 1, and weight the samples.
The metric's baseline is 2 nats. "skewed" has lognormal differences without noise of tokens: the hardest case here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

# The package of the same name as a file here must come before it.
sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.analysis.comparison.compare import paired
from indexscope.analysis.comparison.inference import detectable
from indexscope.analysis.comparison.verdicts import with_verdicts
from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.sums import Sums
from indexscope.analysis.settings import ComparisonSettings

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
SIZES = (8, 16, 64, 256)
SPREAD, NOISE, BASELINE = 0.2, 0.3, 2.0


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Light tails."""
    return random.standard_normal(shape)


def heavy(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with 3 degrees of freedom, variance 1."""
    return random.standard_t(3, shape) / np.sqrt(3)


def skewed(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Lognormal with log-sd 1, mean 0, variance 1."""
    return (np.exp(random.standard_normal(shape)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


@dataclass(frozen=True)
class World:
    """What the simulated studies are like.

    Attributes:
        name: What it is called.
        draw: Difficulties and differences of samples.
        lengths: Standard deviation of the logarithm of the lengths; 0 for equal ones.
        noise: Standard deviation of the noise of tokens in a sample of length 1.
    """

    name: str
    draw: Draw
    lengths: float
    noise: float = NOISE

    def studies(self, samples: int, number: int, shift: float, seed: int) -> tuple[Sums, Sums]:
        """Baseline and candidate of independent studies, one a column, with a true difference ``shift``."""
        random = np.random.default_rng([seed, samples])
        shape = (samples, number)
        weight = np.exp(self.lengths * random.standard_normal(shape))
        difficulty = BASELINE + self.draw(random, shape)
        own = self.draw(random, shape) * SPREAD + shift
        values = [
            difficulty + part + random.standard_normal(shape) * self.noise / np.sqrt(weight) for part in (0.0, own)
        ]
        cells = tuple(("nll", column) for column in range(number))
        one, other = (Sums(np.arange(samples), cells, value * weight, weight) for value in values)
        return one, other


WORLDS = (
    World("normal, lengths 0.5", normal, 0.5),
    *(World(f"t3, lengths {lengths}", heavy, lengths) for lengths in (0.0, 0.5, 1.0)),
    World("lognormal, lengths 0.5", skewed, 0.5),
    World("skewed, lengths 0.5", skewed, 0.5, noise=0.0),
)
USUAL = WORLDS[2]


def rows(
    world: World, samples: int, number: int, settings: ComparisonSettings, shift: float = 0.0, seed: int = 0
) -> pl.DataFrame:
    """Judged comparison rows, one a study; perplexity, which derives from the loss, is left out."""
    found = paired(*world.studies(samples, number, shift, seed), "simulation", settings)
    found = found.filter(pl.col("metric") == "nll").with_columns(candidate=pl.lit("candidate"))
    return with_verdicts(found, settings)


def share(condition: pl.Series | pl.Expr, frame: pl.DataFrame | None = None) -> float:
    """How often something is so; null is not."""
    found = frame.select(condition).to_series() if isinstance(condition, pl.Expr) and frame is not None else condition
    return float(found.fill_null(value=False).mean())  # type: ignore[union-attr,arg-type]


def coverage(number: int, settings: ComparisonSettings) -> Iterator[dict[str, Any]]:
    """How often the interval holds the truth, and on which side it misses."""
    for world in WORLDS:
        for samples in SIZES:
            found = rows(world, samples, number, settings)
            low, high = share(pl.col("ci_low") > 0, found), share(pl.col("ci_high") < 0, found)
            yield {"world": world.name, "n": samples, "coverage": 1 - low - high, "too high": low, "too low": high}


def verdicts(number: int, settings: ComparisonSettings) -> Iterator[dict[str, Any]]:
    """False alarms of each verdict, power at the minimum detectable effect, and how well that is estimated.

    The margin is four standard errors, so that a study of this size can show equivalence; the false alarm of
    "equivalent" and of "no worse" is at a true difference of just the margin.
    """
    for world in (USUAL, WORLDS[-1]):
        for samples in SIZES:
            probe = rows(world, samples, number, settings, seed=1)
            error = float(probe["difference"].std())  # type: ignore[arg-type]
            sized = settings.model_copy(update={"margins": {"nll": 4 * error}})
            null, edge = (rows(world, samples, number, sized, shift, seed=2) for shift in (0.0, 4 * error))
            known, n = np.array([error]), np.array([float(samples)])
            least = float(detectable(known, n, settings.confidence)[0])
            power = rows(world, samples, number, settings, least, seed=3)
            yield {
                "world": world.name,
                "n": samples,
                "better, none": share(pl.col("better"), null),
                "worse, none": share(~pl.col("better"), null),
                "equivalent, none": share(pl.col("verdict") == "equivalent", null),
                "equivalent at the margin": share(pl.col("verdict") == "equivalent", edge),
                "no worse at the margin": share(pl.col("no_worse"), edge),
                "detected at the MDE": share(pl.col("p") < 1 - settings.confidence, power),
                "median MDE / true": float(np.median(power["mde"].to_numpy())) / least,
            }


def rare_losses(number: int, settings: ComparisonSettings) -> Iterator[dict[str, Any]]:
    """How often a study says equivalent or no worse of a loss of three margins that one sample in ten carries alone."""
    margin, random = 0.01, np.random.default_rng(11)
    for samples in (3, 5, 8, 16, 32, 64):
        shape = (samples, number)
        loss = 30 * margin * (random.random(shape) < 0.1) + 0.1 * margin * random.standard_normal(shape)
        cells, weight = tuple(("nll", column) for column in range(number)), np.ones(shape)
        one, other = (Sums(np.arange(samples), cells, BASELINE + part, weight) for part in (np.zeros(shape), loss))
        found = paired(one, other, "simulation", settings).filter(pl.col("metric") == "nll")
        found = with_verdicts(found.with_columns(candidate=pl.lit("candidate")), settings)
        words = {word: share(pl.col("verdict") == word, found) for word in ("equivalent", "better", "worse")}
        yield {"n": samples, **words, "no worse": share(pl.col("no_worse"), found)}


def families(number: int, settings: ComparisonSettings) -> Iterator[dict[str, Any]]:
    """How often a study without any true difference calls some metric different; and the share of false calls."""
    sampled = [name for name in HEADLINE if REGISTRY[name].table not in ("facts", "profile")]
    layers = 61
    for title, size, samples in (("headline metrics", len(sampled), 64), ("layers of a metric", layers, 64)):
        for correlation in (0.0, 0.5, 0.9):
            for true in (0, size // 2):
                studies = max(number // (1 if size < layers else 4), 100)
                found = _family(size, samples, studies, correlation, true, settings)
                called = found.filter("corrected").group_by("study").agg(false=(~pl.col("true")).sum(), n=pl.len())
                chance = found.filter(~pl.col("true"), pl.col("p") < 1 - settings.confidence)
                yield {
                    "family": f"{size} {title}",
                    "n": samples,
                    "correlation": correlation,
                    "truly different": true,
                    "some false call, uncorrected": chance["study"].n_unique() / studies,
                    "some false call": called.filter(pl.col("false") > 0).height / studies,
                    "share of calls that are false": float((called["false"] / called["n"]).sum()) / studies,
                    "true ones found": found.filter("true", "corrected").height / max(true * studies, 1),
                }


def _family(
    size: int, samples: int, studies: int, correlation: float, true: int, settings: ComparisonSettings
) -> pl.DataFrame:
    """Judged rows of many studies of a family of correlated metrics; the first ``true`` differ by 3.5 errors."""
    random = np.random.default_rng([7, size, true])
    parts = []
    step = max(1, 12_000 // size)
    for start in range(0, studies, step):
        own = min(step, studies - start)
        common, single = heavy(random, (samples, own, 1)), heavy(random, (samples, own, size))
        value = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * single
        # Half of the metrics fall where the others rise.
        value *= np.where(np.arange(size) % 2, -1.0, 1.0)
        value[..., :true] += 3.5 / np.sqrt(samples)
        flat = SPREAD * value.reshape(samples, -1)
        difficulty = BASELINE + heavy(random, (samples, own * size))
        cells = tuple(("nll", column) for column in range(own * size))
        weight = np.ones_like(flat)
        one, other = (Sums(np.arange(samples), cells, v, weight) for v in (difficulty, difficulty + flat))
        rows = paired(one, other, "simulation", settings).filter(pl.col("metric") == "nll")
        place = np.arange(own * size)
        rows = rows.with_columns(
            candidate=pl.Series(place // size + start).cast(pl.String),
            study=pl.Series(place // size + start),
            layer=pl.Series(place % size),
            true=pl.Series(place % size < true),
        )
        parts.append(with_verdicts(rows, settings))
    return pl.concat(parts)


def show(title: str, found: list[dict[str, Any]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    heads = list(found[0])
    print("| " + " | ".join(heads) + " |")
    print("|" + "|".join(" --- " if isinstance(found[0][head], str) else " ---: " for head in heads) + "|")
    for row in found:
        print("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


def main() -> None:
    """Run all simulations and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies of each kind")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--save", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    settings = ComparisonSettings(resamples=arguments.resamples)
    started, results = time.perf_counter(), {}
    for title, work in (
        ("Coverage", coverage),
        ("Verdicts and power", verdicts),
        ("Rare losses", rare_losses),
        ("Many metrics", families),
    ):
        results[title] = list(work(arguments.studies, settings))
        show(title, results[title])
    seconds = time.perf_counter() - started
    print(f"\n{arguments.studies} studies of each kind, {arguments.resamples} resamples, {seconds:.0f} s")
    if arguments.save:
        arguments.save.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
