"""The published calls on the attention of the built-in model, dense and sparse, and what they must find there."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure

from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import load_model, load_tokenizer, resolve
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.stdlib import stdlib_documents
from interpretability import AttentionVisualizer, PatternAnalyzer

LAYER = 4


def test_the_published_calls_find_what_the_pipeline_finds() -> None:
    path = resolve("builtin:baseline")
    model, text = load_model(path), stdlib_documents("held_out")[0].text
    ids = load_tokenizer(path)([text], return_tensors="pt", truncation=True, max_length=128)["input_ids"]
    tables = extract_samples(model, [Sample(0, "", tuple(ids[0].tolist()))], ExtractSettings(chunk=32))
    model.set_attn_implementation("eager")

    def run(keys: int) -> tuple[torch.Tensor, torch.Tensor]:
        for module in model.modules():
            if hasattr(module, "index_topk"):
                module.index_topk = keys
        with torch.inference_mode():
            out = model(ids, output_attentions=True, use_cache=False)
        return out.attentions[LAYER], out.logits

    (sparse_weights, logits), (dense_weights, dense_logits) = run(64), run(128)
    selected_tokens = (sparse_weights > 0).any(1)  # [batch, S, S]

    visualizer = AttentionVisualizer()
    drawn = visualizer.visualize_sparse_attention(sparse_weights, selected_tokens, title="Sparse Attention Pattern")
    assert isinstance(drawn, Figure)
    for selection in ((), (selected_tokens,)):
        assert isinstance(visualizer.compare_sparse_vs_dense(sparse_weights, dense_weights, *selection), Figure)
    entropy_stats = visualizer.analyze_attention_entropy(dense_weights)
    assert entropy_stats["entropy"] == entropy_stats.entropy
    assert 0 < visualizer.analyze_attention_entropy(sparse_weights).entropy < entropy_stats.entropy

    analyzer = PatternAnalyzer(n_clusters=5)
    clustering_results = analyzer.cluster_patterns(dense_weights)
    assert sorted(set(clustering_results.labels.ravel().tolist())) == list(range(5)), "six heads in five clusters"
    pattern_types = analyzer.classify_pattern_types(dense_weights)
    assert len(pattern_types.labels.ravel()) == 6
    model_outputs = {"logits": logits, "dense_logits": dense_logits, "labels": ids}
    efficiency_metrics = analyzer.analyze_pattern_efficiency(sparse_weights, model_outputs)
    optimal_patterns = analyzer.identify_optimal_patterns(efficiency_metrics)
    assert set(optimal_patterns.heads) <= set(range(6)) and len(optimal_patterns.heads) > 0

    own = tables["tokens"]
    nll, dense_nll = ((own[name] * own["tokens"]).sum() / own["tokens"].sum() for name in ("nll", "dense_nll"))
    assert efficiency_metrics.nll == pytest.approx(nll, rel=1e-4)
    assert efficiency_metrics.quality_maintenance == pytest.approx(math.exp(dense_nll - nll), rel=1e-3)
