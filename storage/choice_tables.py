"""The tables of what changed between the models' choices, and those of the probe that they are made with."""

from __future__ import annotations

from storage.columns import Column, Table, of, table

_PLACE: tuple[Column, ...] = of(layer="Index of the layer, from 0; null for all layers together.")


def _interval(prefix: str, what: str) -> tuple[Column, ...]:
    return of(
        "as the value",
        **{
            f"{prefix}ci_low": f"Lower end of the confidence interval of {what}.",
            f"{prefix}ci_high": f"Upper end of the confidence interval of {what}.",
        },
    )


def _changed(name: str, done: str, chance: str) -> tuple[Column, ...]:
    return (
        *of(
            "keys",
            **{
                name: f"Keys that the candidate {done}, each times the queries that its query stands for.",
                f"{name}_expected": f"The same if {chance}.",
            },
        ),
        *of("share", **{f"{name}_share": f"Share of all keys {name} that lie in the bin."}),
        *of("ratio", **{f"{name}_lift": f"Keys {name} relative to those expected; 1 is by chance."}),
        *_interval(f"{name}_", "the lift; null for single layers"),
    )


CHOICES: dict[tuple[str, str], Table] = {
    ("probes", "attended"): table(
        "sample, layer with a selection, query",
        "sample layer query",
        of("keys", kept="Keys whose attention is kept: the most attended ones, at most probe.attended_keys."),
        of(
            "share",
            selected_rest="Dense attention of the head mean on all other selected keys.",
            unselected_rest="The same on all other keys that are not selected.",
        ),
        of(
            keys="The kept keys, ascending, as differences in LEB128.",
            mass="Dense attention of the head mean on each, as little-endian float16.",
        ),
    ),
    ("probes", "token_kinds"): table(
        "sample",
        "sample",
        of("tokens", tokens="Length of the sample."),
        of(
            classes="Class of each token, one byte: 0 special, 1 whitespace, 2 punctuation, 3 digit, 4 word start, "
            "5 continuation; null without a tokenizer.",
            first="Position of the first token that is the same as each, as little-endian int32.",
        ),
    ),
    ("comparisons", "choices"): table(
        "candidate, metric, layer",
        "candidate metric layer",
        of("in the column unit", value="The metric's value."),
        of(unit="Unit of the value."),
        _interval("", "the value"),
        of("samples", n="Samples that the value is of."),
        ordered=False,
    ),
    ("comparisons", "choices_where"): table(
        "candidate, layer, bucket",
        "candidate layer bucket",
        _PLACE,
        of("share", "queries", overlap="Mean Jaccard similarity of the candidate's selection with the baseline's."),
        _interval("", "the overlap; null for single layers"),
        of(
            "share",
            "queries",
            by_chance="What a random selection of the candidate's size would have on average.",
            kept="Share of the baseline's selected keys that the candidate selects too.",
            added="Share of the candidate's selected keys that the baseline does not select.",
        ),
        of("queries", queries="Queries in effect that the sampled ones stand for."),
        of("share", mass_lost="Baseline's attention on dropped keys less that on added ones; of probed samples."),
        _interval("mass_", "the attention lost; null for single layers"),
        of("samples", n="Samples that the overlap is of; null for single layers."),
        ordered=False,
    ),
    ("comparisons", "choices_by"): table(
        "candidate, layer, axis, bin",
        "candidate layer axis bin",
        _PLACE,
        of(
            axis="What the bins divide: distance, relative position (tenths of the eligible keys), or kind of token "
            "(of probed samples; kinds overlap).",
            label="The bin in words.",
        ),
        of("keys", eligible="Eligible keys in the bin, each times the queries that its query stands for."),
        of("keys", kept="Keys that both models select, weighted likewise."),
        of("share", kept_share="Share of all kept keys that lie in the bin."),
        _changed("dropped", "no longer selects", "as many of the baseline's keys were dropped at random at each query"),
        _changed("added", "selects anew", "as many of the keys that the baseline leaves out were added at random"),
        of(
            "share",
            mass_dropped="Baseline's attention on dropped keys of the bin, mean over queries of probed samples.",
            mass_added="The same on added keys.",
        ),
        of("samples", n="Samples in which keys of the bin were eligible; null for single layers."),
        ordered=False,
    ),
    ("comparisons", "choices_worst"): table(
        "candidate, list, rank",
        "candidate by rank",
        of(
            by="The list: overlap (lowest first) or mass_lost (largest first).",
            rank="Place in the list, from 1.",
            sample="Index of the sample in the dataset, from 0.",
            name="Document and offset of the sample.",
        ),
        of(
            "share",
            overlap="The sample's overlap over all layers.",
            kept="Share of the baseline's selected keys that are kept in it.",
            mass_lost="Baseline's attention that is lost in it, net; null if it was not probed.",
        ),
        of(layer="The layer in which the sample's selections overlap least."),
        of("share", layer_overlap="Its overlap."),
        of("queries", queries="Sampled queries in effect, over all layers and groups."),
        of(excerpt="Whether the content analysis shows excerpts of the sample."),
        ordered=False,
    ),
}
