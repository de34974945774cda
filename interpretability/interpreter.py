"""What a lightning indexer does, of a model and batches in a notebook: the pipeline's analyses, with its numbers."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from indexscope import IndexscopeError
from indexscope.analysis.analyses import AnalysisSettings
from indexscope.analysis.capture import CapturedModel, TracedModel
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.classes import token_classes
from indexscope.analysis.closeup.collect import Maker, Vocabulary
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.comparison.compare import combine
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.indexer_heads import run as indexer_heads
from indexscope.analysis.key_budget import run as key_budget
from indexscope.analysis.key_budget.collect import budget_collector
from indexscope.analysis.leaks import LEAKS, leaks
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.report.numbers import number
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from indexscope.analysis.token_content import run as token_content
from indexscope.analysis.token_content.collect import content_collector
from indexscope.errors import is_out_of_memory
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.vocabulary import vocabulary_pieces
from interpretability.analyses import (
    SAMPLES,
    A,
    IndexerHeads,
    PositionalBias,
    RelevanceDistribution,
    TokenSelection,
)
from interpretability.batches import digest, read_batch, read_dataset
from interpretability.costs import costs_of
from interpretability.folder import Folder
from interpretability.house import finish
from interpretability.models import Subject, watched
from interpretability.pictures import draw_analysis, name_of

EXTRACT = ExtractSettings(dense_reference=False, selection_queries=0)
CLOSEUP = CloseupSettings(samples=None, rerun_samples=0, top_logits=0, attended_keys=0)
#: Queries at once of models that run whole sequences anyway.
CHUNK = 256
#: Tables of `RelevanceDistribution` and what the pipeline calls them.
SCORE_TABLES = {"quantiles": "score_quantiles", "histogram": "score_histogram", "moments": "score_moments"}
Tables = dict[str, pl.DataFrame]


class IndexerInterpreter:
    """Tells what a lightning indexer selects, why, and what it misses.

    Every number is the pipeline's: of the same samples and settings, a study finds the same.

    Args:
        settings: The analyses' settings: quantiles, bins and the bootstrap. By default a study's.
        extract: How a model is run, and what counts as sparse or local. By default a study's, without the second
            forward that only the quality of predictions needs; dtype and device are the model's own.
        closeup: How closely single heads and tokens are looked at; by default at 32 queries of every sample, without
            what head analysis does not read.
        save_dir: Folder for every figure, as token_selection_light.png, token_selection_light_2.png, ...; it is made. A
            call's save_path goes before it.
        profile: Also time a model of transformers with each analysis, at ``extract.profile_lengths``; parameters and
            FLOPs are known without.

    Raises:
        ValueError: save_dir cannot be made or written.

    Example:
        >>> from indexscope.storage.inputs.checkpoints import load_model, resolve
        >>> import torch
        >>> model = load_model(resolve("builtin:light"))
        >>> ids = torch.arange(2 * 160).view(2, 160) * 37 % 512
        >>> analysis = IndexerInterpreter().analyze_token_selection(model, ids)
        >>> analysis.oracle_recall > analysis.selection_recall > analysis.random_recall
        True
    """

    def __init__(
        self,
        settings: AnalysisSettings | None = None,
        extract: ExtractSettings | None = None,
        closeup: CloseupSettings | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        profile: bool = False,
    ) -> None:
        self.settings = settings or AnalysisSettings()
        self.extract = extract or EXTRACT
        self.closeup = closeup or CLOSEUP
        self.profile = profile
        self._folder = None if save_dir is None else Folder(save_dir)

    def analyze_indexer_heads(self, model: object, batch: object, *, name: str | None = None) -> IndexerHeads:
        """What single indexer heads do at sampled queries of one batch.

        Heads are ranked on every fourth sample, and what is lost without the lowest ranked ones is measured on the
        others, so that a batch of one sample has no ``pruning``.

        Args:
            model: See `interpretability.models.ACCEPTED`.
            batch: Token ids [B, S] (tensor, array or lists), or a mapping with input_ids and attention_mask; for a
                module with an indexer also hidden states [B, S, width].
            name: What the result calls the model.

        Returns:
            Specialisation, redundancy and loss of every head; null, with a note, where single heads are not seen.

        Raises:
            TypeError: The model is no model, or the batch no batch.
            ValueError: The model has no indexer or cannot be watched; the batch has another rank, ids beyond the
                vocabulary, or more tokens than the model has positions for.
        """
        with plain_errors(), watched(model, name) as subject:
            samples = read_batch(batch, subject)
            seen = _Seen(subject)
            seen.took(samples)
            extract, journal = self._run(subject), seen.journal
            tables = closeup_samples(subject.source, samples, self.closeup, extract, journal)
            if tables["indexer_heads"].is_empty():
                # Either nothing was left out, or nothing is told of heads; which of the two, the queries tell.
                found = extract_samples(subject.source, samples, extract, journal)
                if not seen.warn_idle(found.get("indexer")):
                    seen.warn(
                        f"{subject.name}: shows no scores of single indexer heads by key, so that all of them is null"
                    )
            found = indexer_heads.run(tables, self.settings.indexer_heads)
            return self._told(IndexerHeads, seen, found)

    def study_relevance_distribution(
        self, model: object, dataset: object, *, name: str | None = None
    ) -> RelevanceDistribution:
        """How the index scores are distributed over a dataset, and how they part selected from unselected keys.

        Args:
            model: See `interpretability.models.ACCEPTED`.
            dataset: An iterable of batches as `analyze_indexer_heads` takes them, or one batch. It is read once, batch
                by batch; what is kept are sums by sample.
            name: What the result calls the model.

        Returns:
            Quantiles, histogram and moments by layer and group, margin, ties, zeros, divergence from the attention.

        Raises:
            TypeError: As `analyze_indexer_heads`.
            ValueError: As `analyze_indexer_heads`; the dataset is empty.
        """
        with plain_errors(), watched(model, name) as subject:
            tables, seen = self._features(subject, dataset, ("samples", "indexer", "scores"))
            if "scores" not in tables:
                seen.warn(f"{subject.name}: shows no index scores, so that all of them is null")
                tables["indexer"] = _without_scores(tables["indexer"])
            found = distribution.run(tables, self.settings.distribution)
            found |= {own: found[stored] for own, stored in SCORE_TABLES.items()}
            found["by_bucket"] = of_numbers(RelevanceDistribution.numbers, found["by_bucket"])
            return self._told(RelevanceDistribution, seen, found)

    def analyze_positional_bias(self, model: object, dataset: object, *, name: str | None = None) -> PositionalBias:
        """Which distances and ages of keys the selection prefers, beyond what exposure gives.

        Args:
            model: See `interpretability.models.ACCEPTED`.
            dataset: As for `study_relevance_distribution`.
            name: What the result calls the model.

        Returns:
            The lift by distance and by relative position with intervals, and the bias as one number, in bits.

        Raises:
            TypeError: As `analyze_indexer_heads`.
            ValueError: As `analyze_indexer_heads`; the dataset is empty.
        """
        with plain_errors(), watched(model, name) as subject:
            tables, seen = self._features(subject, dataset, ("samples", "indexer", "positions"))
            found = positional_bias.run(tables, self.settings.positional_bias)
            return self._told(PositionalBias, seen, found)

    def analyze_token_selection(
        self,
        model: object,
        dataset: object,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        name: str | None = None,
    ) -> TokenSelection:
        """What the selection holds of the attention, between a random and the best one, and which tokens it takes.

        Args:
            model: See `interpretability.models.ACCEPTED`.
            dataset: As for `study_relevance_distribution`.
            tokenizer: Tells the kinds of tokens (punctuation, digits, word starts, ...); without it ``lift`` knows
                only induction, repeated tokens and first occurrences.
            name: What the result calls the model.

        Returns:
            Recall with its bounds, overlap with the best keys, lift by kind of token, and how many keys would do.

        Raises:
            TypeError: As `analyze_indexer_heads`.
            ValueError: As `analyze_indexer_heads`; the dataset is empty.
        """
        with plain_errors(), watched(model, name) as subject:
            classes = None
            if tokenizer is not None:
                words = Vocabulary(*vocabulary_pieces(tokenizer))
                classes = token_classes(words.pieces, words.special)
            makers = [budget_collector(), content_collector(classes)]
            tables, seen = self._features(subject, dataset, ("samples", "indexer"), makers)
            summary = distribution.run(tables, self.settings.distribution)
            kinds = token_content.run(tables, self.settings.token_content)
            needs = key_budget.run(tables, self.settings.key_budget)
            if seen.hidden:
                seen.note("batches are hidden states, not tokens: the lift by kind of token is null")
                kinds = {name: frame.clear() for name, frame in kinds.items()}
            found = {**needs, **kinds, "by_bucket": of_numbers(TokenSelection.numbers, summary["by_bucket"])}
            found |= combine({"distribution": summary, "token_content": kinds, "key_budget": needs})
            return self._told(TokenSelection, seen, found)

    def visualize_indexer_analysis(
        self, analysis: object, *, save_path: str | os.PathLike[str] | None = None
    ) -> Figure:
        """Draw an analysis with the report's own plots, one below the other.

        Args:
            analysis: What a method of this class, `compare_indexer_analyses` or `load(...).analysis(...)` returned.
            save_path: Where to save the figure as well, ending in .png, .svg or .pdf.

        Returns:
            The figure; it is shown only in an interactive session.

        Raises:
            TypeError: It is no analysis.
            ValueError: There is nothing to draw, or the path has another ending.
        """
        with plain_errors():
            figure = draw_analysis(analysis)
            if self._folder is not None:
                save_path = self._folder.place(name_of(analysis), save_path)
            finish(figure, save_path)
        return figure

    def _told(self, kind: type[A], seen: _Seen, found: Tables) -> A:
        """An analysis from its tables, once all batches were seen."""
        subject, samples = seen.subject, seen.frame()
        timed = self.extract if self.profile else None
        costs = costs_of(subject, samples, self.settings.efficiency, timed, seen.journal)
        leaks = seen.audit()
        seen.hear()
        return kind.of(costs.name, samples, found, tuple(seen.notes), subject.knows_attention, costs.metrics, leaks)

    def _run(self, subject: Subject) -> ExtractSettings:
        """The settings of a run: a model that runs whole sequences has no chunk to be chosen."""
        whole = subject.shown is not None and self.extract.chunk == "auto"
        return self.extract.model_copy(update={"chunk": CHUNK}) if whole else self.extract

    def _features(
        self, subject: Subject, dataset: object, wanted: Sequence[str], makers: Sequence[Maker] = ()
    ) -> tuple[Tables, _Seen]:
        """Feature tables by sample, batch by batch, and those that collectors make of sampled queries."""
        seen = _Seen(subject)
        extract, journal = self._run(subject), seen.journal
        attempt = Attempt(subject.source, extract, journal)
        parts: dict[str, list[pl.DataFrame]] = {}
        for samples in read_dataset(dataset, subject):
            found = extract_samples(subject.source, samples, extract, journal)
            kept = {table: found[table] for table in wanted if table in found}
            if makers:
                kept |= collect_samples(subject.source, samples, makers, self.closeup.queries, attempt)
            for table, frame in kept.items():
                parts.setdefault(table, []).append(frame)
            seen.took(samples)
        if not seen.samples:
            raise IndexscopeError("dataset", "holds no batch", "give at least one (a generator can be read once only)")
        tables = {table: pl.concat(frames, how="vertical_relaxed") for table, frames in parts.items()}
        seen.warn_idle(tables.get("indexer"))
        if "indexer" not in tables:
            raise IndexscopeError(subject.name, "made no selection", "give a model whose layers select keys")
        return tables, seen


@dataclass
class _Seen:
    """The samples of an analysis, and what there is to say of them."""

    subject: Subject
    samples: list[tuple[int, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hidden: bool = False
    first: Sample | None = None

    @cached_property
    def journal(self) -> Journal:
        """Hears what the pipeline has to say."""
        return Journal(self.note)

    def took(self, samples: Sequence[Sample]) -> None:
        """Remember a batch."""
        self.first = self.first or next((each for each in samples if len(each.input_ids) > 1), None)
        self.samples += [(each.index, len(each.input_ids), digest(each, self.subject)) for each in samples]
        self.hidden |= self.subject.shown is not None and bool(self.subject.shown.hidden)

    def note(self, line: str) -> None:
        """Remember a line, once."""
        if line not in self.notes:
            self.notes.append(line)

    def warn(self, line: str) -> None:
        """Say a line loudly, and remember it."""
        self.note(line)
        warnings.warn(line, stacklevel=_stack())

    def warn_idle(self, indexer: pl.DataFrame | None) -> bool:
        """Whether no query leaves any key out, which is said loudly."""
        if indexer is None or indexer["queries_in_effect"].sum():
            return False
        longest = max(tokens for _, tokens, _ in self.samples)
        k = None if self.subject.shown is not None else self.subject.source.index_topk
        selects = "all that there are" if k is None else str(k)
        self.warn(
            f"no query leaves a key out: the longest sample has {longest} tokens, and a query selects {selects}; "
            "give longer samples, for of a selection of everything nothing can be told"
        )
        return True

    def audit(self) -> bool | None:
        """Whether the model leaks, which is said loudly: as it was seen to, or by the causality audit of one sample.

        None where there is nothing to audit: what shows its selection alone predicts nothing, and must not select the
        future.
        """
        line = self.journal.leaks
        if not line:
            audit = self._audit()
            if audit is None or not leaks(audit):
                return None if audit is None else False
            moved = f"later tokens moved an earlier logit by up to {number(audit['max_logit_change'][0])}"
            line = f"{LEAKS}: {self.subject.name} failed the causality audit: {moved}; none of its numbers can be used"
        self.warn(line)
        return True

    def _audit(self) -> pl.DataFrame | None:
        source = self.subject.source
        if self.first is None or self.subject.shown is not None:
            return None
        if not isinstance(source, TracedModel | CapturedModel):
            return None
        try:
            return audit_causality(source, [self.first.input_ids])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self.note(f"{self.subject.name}: there was no memory for the causality audit, so that it may leak")
        return None

    def frame(self) -> pl.DataFrame:
        """The samples, as `SAMPLES`."""
        return pl.DataFrame(self.samples, schema=SAMPLES, orient="row")

    def hear(self) -> None:
        """Take over the notes of the model."""
        for line in self.subject.shown.notes if self.subject.shown is not None else self.subject.source.notes:
            self.note(line)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what a user can put right as ValueError, with the same line."""
    try:
        yield
    except IndexscopeError as error:
        raise ValueError(str(error)) from None


def of_numbers(numbers: Sequence[str], frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of some metrics."""
    return frame.filter(pl.col("metric").is_in(numbers))


def _without_scores(indexer: pl.DataFrame) -> pl.DataFrame:
    columns = [name for name in RelevanceDistribution.numbers if name in indexer.columns]
    return indexer.with_columns(pl.lit(None, dtype=indexer.schema[name]).alias(name) for name in columns)


def _stack() -> int:
    """Frames from `_Seen.warn` up to the code that called the package: there a warning points."""
    own = os.path.dirname(__file__)
    files = [frame.filename for frame in inspect.stack()[1:]]
    return next((depth for depth, file in enumerate(files, 1) if os.path.dirname(file) != own), 1)
