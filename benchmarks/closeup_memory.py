"""What a close look at a model that is read layer by layer takes of memory, in the file and without it.

    python benchmarks/closeup_memory.py [--length 2048] [--layers 16] [--heads 64] [--chunk 128]

A tiny random DeepSeek-V3.2 with so many attention heads, half as many indexer heads and 32 sampled queries, each time
in a process of its own. *peak* is the most of its own memory that was in use, beyond what it had before the pass. The
tables are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# The package of the same name as a file here must come before it.
sys.path.insert(0, str(Path(__file__).parents[1]))


def look(length: int, layers: int, heads: int, chunk: int, limit: int) -> dict[str, Any]:
    """Look at one sample, with so many bytes of what waits in memory at most."""
    import tempfile

    import torch
    from transformers import DeepseekV32Config, DeepseekV32ForCausalLM

    from benchmarks.streamed import Peak
    from indexscope.analysis.capture.journal import Journal
    from indexscope.analysis.capture.streaming.model import StreamedModel
    from indexscope.analysis.closeup.collect import Look
    from indexscope.analysis.closeup.looking import collect_samples
    from indexscope.analysis.closeup.run import makers_of
    from indexscope.analysis.features.attempt import Attempt
    from indexscope.analysis.settings import CloseupSettings, ExtractSettings
    from indexscope.storage.inputs.samples import Sample
    from indexscope.storage.inputs.streamed.spilled import SpilledStates
    from indexscope.storage.inputs.streamed.weights import StreamedWeights

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = DeepseekV32Config(
        vocab_size=256, hidden_size=64, intermediate_size=64, moe_intermediate_size=32, num_hidden_layers=layers,
        first_k_dense_replace=layers, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=32,
        kv_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=4, n_group=1,
        topk_group=1, num_experts_per_tok=1, max_position_embeddings=length, index_topk=length // 8,
        index_n_heads=heads // 2, index_head_dim=16, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        DeepseekV32ForCausalLM(config).save_pretrained(folder)
        states = SpilledStates(limit)
        most = {"memory": 0, "file": 0}

        def through(*_: int) -> None:
            most["memory"], most["file"] = max(most["memory"], states.in_memory), max(most["file"], states.spilled)

        source = StreamedModel(StreamedWeights(Path(folder), device="cpu"), states, through)
        sample = Sample(0, "s0", tuple(torch.randint(256, (length,)).tolist()))
        settings, close = ExtractSettings(chunk=chunk), CloseupSettings()
        makers = makers_of(Look([0], close))
        short = Sample(0, "s0", sample.input_ids[:chunk])
        collect_samples(source, [short], makers, close.queries, Attempt(source, settings, Journal()))
        own = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())["RssAnon"]
        before, began, peak = int(own.split()[0]) << 10, time.perf_counter(), Peak()
        most.update(memory=0, file=0)
        peak.start()
        tables = collect_samples(source, [sample], makers, close.queries, Attempt(source, settings, Journal()))
        seconds = time.perf_counter() - began
    told = "".join(f"{name}{tables[name].to_dict(as_series=False)}" for name in sorted(tables))
    return {
        "rows and states in memory, MiB": round(most["memory"] / 2**20, 1),
        "in the file, MiB": round(most["file"] / 2**20, 1),
        "peak MiB": round((peak.anonymous - before) / 2**20, 1),
        "seconds": round(seconds, 1),
        "tables": hashlib.sha256(told.encode()).hexdigest()[:16],
    }


def main() -> None:
    """Look without a limit, then with none of it in memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--limit", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape = (given.length, given.layers, given.heads, given.chunk)
    if given.limit is not None:
        print(json.dumps(look(*shape, given.limit)))
        return
    found = []
    for limit in (1 << 60, 0):
        names = ("--length", "--layers", "--heads", "--chunk", "--limit")
        options = [str(part) for pair in zip(names, (*shape, limit), strict=True) for part in pair]
        done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print("in memory:" if limit else "in the file:", json.dumps(found[-1], indent=1))
    print("equal to the bit" if found[0]["tables"] == found[1]["tables"] else "the tables DIFFER")


if __name__ == "__main__":
    main()
