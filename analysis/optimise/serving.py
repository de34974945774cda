"""What serving engines take of an edit, and what they cannot.

Names as the engines read them: vLLM (vllm-project/vllm#37735, #44420) skips an indexer where a layer's letter of
``index_topk_pattern`` is S; without a pattern, where max(layer - index_skip_topk_offset + 1, 0) is no multiple of
``index_topk_freq``. SGLang (sgl-project/sglang#27114) and TensorRT-LLM (NVIDIA/TensorRT-LLM#15574, after #15513) read
the same keys of a checkpoint's config.json, and transformers (huggingface/transformers#45424) ``indexer_types``. All of
them read one ``index_topk`` and one ``index_n_heads`` for all layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.space import Choice, Space

ENGINES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vllm": ("--hf-overrides", ("vllm-project/vllm#37735", "vllm-project/vllm#44420")),
    "sglang": ("--json-model-override-args", ("sgl-project/sglang#27114",)),
    "tensorrt-llm": ("config.json", ("NVIDIA/TensorRT-LLM#15574", "NVIDIA/TensorRT-LLM#15513")),
}


def serving(space: Space, edit: Edit) -> dict[str, Any]:
    """The configuration of each engine for an edit of a space.

    Returns:
        By engine how it is given, the keys, and the pull requests that brought them; ``not expressed`` lists in words
        what of the edit no key says. An engine with these keys alone runs another model than was measured, unless that
        list is empty.
    """
    point = space.point(edit)
    assert point is not None
    keys, missing = dict[str, Any](), list[str]()
    if edit.share:
        keys["index_topk_pattern"] = edit.share
    own = [one for one in point.choices if one is not None]
    budgets = {one.topk for one in own}
    if len(budgets) == 1 and budgets != {layer.topk for layer in space.layers}:
        keys["index_topk"] = budgets.pop()
    elif len(budgets) > 1:
        missing.append("k by layer: engines take one index_topk for all layers")
    if any(len(one.heads) < layer.heads for layer, one in zip(space.layers, point.choices, strict=True) if one):
        missing.append(_heads(own))
    if edit.precision is not None:
        missing.append(f"scores in {edit.precision}: how an engine computes them is no key of the model")
    found: dict[str, Any] = {}
    for engine, (how, pulls) in ENGINES.items():
        given = {"use_index_cache": True, **keys} if engine == "vllm" and edit.share else dict(keys)
        text = f"{how} '{json.dumps(given)}'" if how.startswith("--") and given else how
        found[engine] = {"given as": text, "keys": given, "pull requests": list(pulls)}
    if edit.share:
        kinds = ["shared" if letter == "S" else "full" for letter in edit.share]
        pull = "huggingface/transformers#45424"
        found["transformers"] = {"given as": "config.json", "keys": {"indexer_types": kinds}, "pull requests": [pull]}
    told = {"engines": found, "not expressed": missing, "families": ["deepseek_v32", "glm_moe_dsa"]}
    periodic = every(edit.share) if edit.share else None
    if periodic is not None:
        told["same as index_topk_pattern"] = {"index_topk_freq": periodic[0], "index_skip_topk_offset": periodic[1]}
    return told


def _heads(own: list[Choice]) -> str:
    counts = {len(one.heads) for one in own}
    if len(counts) == 1:
        return (
            f"indexer heads: a checkpoint with the rows of these heads alone and index_n_heads {counts.pop()} would do"
        )
    return "indexer heads: engines take one index_n_heads for all layers"


def every(share: str) -> tuple[int, int] | None:
    """Frequency and offset that say the same as letters; None where none do.

    >>> every("FFSFSF"), every("FFFSSSFSSS"), every("FSSS"), every("FFSS")
    ((2, 2), (4, 3), (4, 1), (3, 2))
    >>> every("FSFFS") is None
    True
    """
    for freq in range(2, len(share) + 1):
        for offset in range(1, len(share) + 1):
            letters = ("S" if max(layer - offset + 1, 0) % freq else "F" for layer in range(len(share)))
            if "".join(letters) == share:
                return freq, offset
    return None
