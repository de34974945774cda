"""Dumps as SGLang, vLLM and others write them, from sequences of (token ids, selections [rows, layers, k])."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

Sequences = Sequence[tuple[Sequence[int], np.ndarray[Any, Any]]]


def base64_of(data: bytes) -> str:
    """Bytes as a server sends them."""
    return base64.b64encode(data).decode()


def npy_of(array: np.ndarray[Any, Any]) -> bytes:
    """An array as a file .npy."""
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def sglang(path: Path, sequences: Sequences, prompt: int = 3, **about: Any) -> Path:
    """Answers of /generate, one a line, each with the ids of its prompt."""
    lines = [
        {
            "text": 'says "indexer_topk": "nothing"',
            "input_ids": list(ids[:prompt]),
            "output_ids": list(ids[prompt:]),
            "meta_info": {"id": "x", "indexer_topk": base64_of(rows.astype("<i4").tobytes()), **about},
        }
        for ids, rows in sequences
    ]
    path.mkdir(parents=True, exist_ok=True)
    (path / "dump.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def vllm_answers(path: Path, sequences: Sequences, prompt: int = 3) -> Path:
    """Answers of /v1/completions, one a line, asked for token ids."""
    lines = [
        {
            "object": "text_completion",
            "choices": [
                {
                    "index": 0,
                    "indexer_topk": base64_of(npy_of(rows.astype(np.int32))),
                    "token_ids": list(ids[prompt:]),
                    "prompt_token_ids": list(ids[:prompt]),
                }
            ],
        }
        for ids, rows in sequences
    ]
    path.mkdir(parents=True, exist_ok=True)
    (path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


def vllm_arrays(path: Path, sequences: Sequences) -> Path:
    """An array a sequence, token ids beside it in an array or as JSON."""
    path.mkdir(parents=True, exist_ok=True)
    for number, (ids, rows) in enumerate(sequences):
        np.save(path / f"{number}.npy", rows.astype(np.int32))
        if number % 2:
            (path / f"{number}.json").write_text(json.dumps({"prompt_token_ids": list(ids), "token_ids": []}))
        else:
            np.save(path / f"{number}.tokens.npy", np.array(ids))
    return path


def npz(path: Path, sequences: Sequences) -> Path:
    """An archive a sequence, every second one compressed."""
    path.mkdir(parents=True, exist_ok=True)
    for number, (ids, rows) in enumerate(sequences):
        save = np.savez_compressed if number % 2 else np.savez
        save(path / f"{number}.npz", input_ids=np.array(ids), selected=rows.astype(np.int32))
    return path


def parquet(path: Path, sequences: Sequences, layers: Sequence[int] | None = None) -> Path:
    """One file, a row a query and layer, in small row groups."""
    path.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Any]] = {name: [] for name in ("record", "position", "token", "layer", "keys")}
    for number, (ids, rows) in enumerate(sequences):
        for position, of_layers in enumerate(rows):
            for place, keys in enumerate(of_layers):
                cells = (f"r{number}", position, ids[position], place if layers is None else layers[place])
                for name, value in zip(found, (*cells, [int(key) for key in keys if key >= 0]), strict=True):
                    found[name].append(value)
    frame = pl.DataFrame(found, schema_overrides={"keys": pl.List(pl.Int32)})
    frame.write_parquet(path / "dump.parquet", row_group_size=7)
    return path


WRITERS: Mapping[str, Callable[[Path, Sequences], Path]] = {
    "sglang": sglang,
    "vllm": vllm_answers,
    "vllm arrays": vllm_arrays,
    "npz": npz,
    "parquet": parquet,
}
