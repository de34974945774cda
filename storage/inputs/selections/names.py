"""The formats of dumps by name: light to import, for whoever reads a study file."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["sglang", "vllm", "parquet", "npz"]
FORMATS: tuple[Format, ...] = get_args(Format)
