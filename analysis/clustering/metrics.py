"""How the heads' attention patterns group."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_CLUSTERING = Computed("clustering", "attention")

FAMILY = Family(
    order=100,
    title="Patterns",
    about=(
        "k-means on features of each sample, layer and head as they are, from 0 to 1 (reach over 2, the most it can "
        "be): nothing is divided by how much it varies, so that a feature which hardly does sets no clusters apart and "
        "a few outliers decide nothing. A cluster is named for what it has more of than all rows, by 0.1 at least. "
        "Intervals resample "
        "samples, each with the counts of its rows by cluster and pattern type (for the silhouette, with those of its "
        "rows that were judged), and leave centres and rules as they are: they tell what other samples "
        "would have shown of these clusters. Whether other samples would have led to other clusters is told by "
        "cluster_stability, and by the spread over seeds and halves in the table `choice`. clusters_chosen and "
        "cluster_stability have no interval; of the latter, halves_min is the least over the splits. A pattern type is "
        "said of attention beyond chance at that length: of a share x of the attention the rule asks for "
        "u + theta (1 - u), where u is what random attention with as large weights may well have. Uniform causal "
        "attention gives a set A of keys nu, the mean over the measured queries of |E_t and A| / n_t, and one key the "
        "mean of 1/n_t; u = nu + 2 sqrt(nu (1 - nu) d) + 2 d / 3, with d = (max_weight - mean of 1/n_t) / queries. "
        "theta is 0.5 for sink, previous-token, self and local and 0.4 for induction. Of the strongest of K "
        "diagonals (slash, theta 0.3, r = 1) and columns (vertical, theta 0.25, r = 4) chance has at most "
        "r (1/n_t + sqrt(2 d ln(K/r) / n_t) + d ln(K/r) / 3). Where uniform attention has more than half of itself in "
        "the window, attention is local also if its mean distance is at most half of what chance has; global is half "
        "beyond window and sinks in the buckets that reach beyond, uniform a normalised entropy of 0.95. Windows of "
        "half the context and more cannot be told from it. Block "
        "asks for a block_mass of 0.2: attention spread evenly over whole blocks of 16, 32, 64, 128, 256 or 512 "
        "keys that start at multiples of their size. The contrast of a query for size B is sum over blocks K of a_K "
        "min over i of m_i, less the same for blocks shifted by B / 2; K has four parts, of which a_K are wholly "
        "eligible, i runs over those, and m_i is the attention on part i. block_mass is the largest over the sizes, at "
        "least 0, of the mean over the B / 16 places within a block, each 16 queries long, of the mean contrast of "
        "every fourth query (t = 19, 23, 27, ...) at that place: places count alike, however many queries each has. A "
        "size is judged where each place has 12 such queries, from 64 tokens on for 16 keys and from 1,552 on for 512. "
        "Windows, diagonals, columns and uniform attention have 0, since nothing tells them where a block begins; "
        "attention to whole blocks has 1, to the query's own block up to itself 0.5 to 0.8. Noise makes it about 0.03, "
        "and clusters take less than 0.05 as 0. A stripe of keys that happens to fill a block counts as one; blocks "
        "of another size or start are missed."
    ),
    metrics=(
        Metric(
            "clusters_chosen",
            "clusters",
            "neither",
            "Number of clusters of attention patterns.",
            "clustering.clusters, or the largest k from 2 to clustering.max_clusters whose every cluster is found "
            "again (mean Jaccard index with the nearest cluster of either half of the samples of at least 0.85, over "
            "6 splits) and differs from every other by 0.2 in a feature; such without a cluster of more than 0.6 of "
            "the rows go first; where no k will do, the one whose clusters are found again best",
            _CLUSTERING,
            per_layer=False,
            range="2 to clustering.max_clusters, or as set",
            source="Hennig 2007; threshold of Hennig 2008",
            misleads="The criterion always finds a number, also in data without groups: read found_again in the table "
            "`choice`, and the silhouette. The heads are the same in both halves: that other heads would group so, it "
            "does not say.",
        ),
        Metric(
            "silhouette",
            "score",
            "neither",
            "How well the clusters are separated, from -1 to 1; below 0.25 they are a convenience, not a finding.",
            "mean over rows of (b - a) / max(a, b), a the mean distance to the own cluster, b to the nearest other",
            _CLUSTERING,
            per_layer=False,
            source="Rousseeuw 1987; thresholds of Kaufman and Rousseeuw 1990",
            range="-1 to 1",
            misleads="Favours round, well-separated clusters of similar size; k-means on data without any groups "
            "still reaches 0.1 to 0.3 in few dimensions. It is of at most 2,000 rows of all models that were fitted "
            "together; n counts the samples of these.",
        ),
        Metric(
            "cluster_stability",
            "score",
            "higher",
            "How well clusters from one half of the samples agree with those from the other; 1 is perfectly, 0 chance.",
            "mean adjusted Rand index over 6 splits of the samples; either half's k-means groups all judged rows",
            _CLUSTERING,
            per_layer=False,
            source="Hubert and Arabie 1985",
            range="-1 to 1",
            misleads="High also where both halves repeat the same artefact; and it speaks of the clusters, not of "
            "whether there are groups: read it beside the silhouette.",
        ),
        Metric(
            "rule_agreement",
            "score",
            "neither",
            "How well the clusters agree with the pattern types by rules; 1 is perfectly, 0 chance.",
            "adjusted Rand index of cluster and pattern type over all rows, of a resample that of the summed tables of "
            "its samples; unknown where both are constant",
            _CLUSTERING,
            per_layer=False,
            source="Hubert and Arabie 1985",
            range="-1 to 1",
            misleads="Low agreement is no error of either: rules look at one feature at a time, clusters at all, "
            "and many clusters within one type lower it.",
        ),
        Metric(
            "rule_information",
            "share",
            "neither",
            "What clusters and pattern types tell of each other, as a share of all that either tells: 0 is nothing, 1 "
            "all; not corrected for chance.",
            "mutual information of cluster and pattern type over the larger of their entropies, of a resample that of "
            "the summed tables of its samples; unknown where both are constant",
            _CLUSTERING,
            per_layer=False,
            source="Vinh, Epps and Bailey 2010 (NMI max)",
            range="0 to 1",
            misleads="Low where the finer of the two splits what the other has as one, which is no error of either; "
            "and chance alone makes it more than 0 where there are few rows: rule_agreement is corrected for that.",
        ),
    ),
)
