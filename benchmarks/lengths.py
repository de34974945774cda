"""A study of very long samples at several lengths: its peak memory, and its time against what the plan says before.

    python benchmarks/lengths.py [--tokens 65536] [--samples 1] [--reruns 1] [--folder FOLDER]

A random DeepSeek-V3.2 of two layers, two heads and an indexer of two heads that selects 64 keys; lengths are the tokens
over 64, 16, 4 and 1. The study runs as the command line runs it, in processes of its own, whose resident memory is
added up ten times a second (Linux; what processes share is counted for each). The estimate is that of the plan, made
in the same run and on the same machine; compare the two and not minutes of two machines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """\
name: lengths
baseline: model
lengths: {lengths}
dataset: {{source: data.jsonl, column: input_ids, samples: null}}
extract: {{profile_repeats: 1}}
closeup: {{rerun_samples: {reruns}}}
"""


def save(folder: Path, tokens: int, samples: int, reruns: int) -> None:
    """Write model, data and study."""
    import torch
    from transformers import DeepseekV32Config, DeepseekV32ForCausalLM

    torch.manual_seed(0)
    config = DeepseekV32Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, moe_intermediate_size=32, num_hidden_layers=2,
        first_k_dense_replace=2, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=16, kv_lora_rank=16,
        qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=4, n_group=1, topk_group=1,
        num_experts_per_tok=1, max_position_embeddings=2 * tokens, index_topk=64, index_n_heads=2, index_head_dim=16,
    )  # fmt: skip
    DeepseekV32ForCausalLM(config).save_pretrained(folder / "model")
    draw = random.Random(0)
    rows = [{"input_ids": [draw.randrange(300) for _ in range(tokens)]} for _ in range(samples)]
    (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lengths = [tokens // part for part in (64, 16, 4, 1)]
    (folder / "study.yaml").write_text(STUDY.format(lengths=lengths, reruns=reruns))


def resident(root: int) -> int:
    """Bytes that a process and all below it hold, added up."""
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            status = (entry / "status").read_text()
        except OSError:  # it has ended
            continue
        parents[int(entry.name)] = int(re.search(r"PPid:\s+(\d+)", status)[1])  # type: ignore[index]
        size = re.search(r"VmRSS:\s+(\d+) kB", status)
        sizes[int(entry.name)] = int(size[1]) * 1024 if size else 0
    family, grown = {root}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    return sum(sizes.get(member, 0) for member in family)


def run(folder: Path) -> tuple[float, int, int]:
    """Run the study; seconds, peak bytes of all its processes and of the largest state of the first alone."""
    command = [str(Path(sys.executable).with_name("indexscope")), "study", "study.yaml"]
    began = time.perf_counter()
    with (folder / "out.log").open("wb") as out:
        running = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=os.environ.copy())
        peak, alone = 0, 0
        while running.poll() is None:
            peak = max(peak, resident(running.pid))
            try:
                status = Path(f"/proc/{running.pid}/status").read_text()
                held = re.search(r"VmHWM:\s+(\d+) kB", status)
                alone = int(held[1]) * 1024 if held else alone
            except OSError:
                pass
            time.sleep(0.1)
    if running.returncode:
        sys.exit((folder / "out.log").read_text())
    return time.perf_counter() - began, peak, alone


def main() -> None:
    """Make the study, run it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--reruns", type=int, default=1, help="samples that run eight times more, for stability")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        save(folder, options.tokens, options.samples, options.reruns)
        seconds, peak, alone = run(folder)
        lines = (folder / "out.log").read_text().splitlines()
    told = [line for line in lines if line.startswith("time: ")]
    print(
        f"{options.samples} x {options.tokens:,} tokens: {seconds / 60:.1f} min, {peak / 2**30:.2f} GiB at most", end=""
    )
    print(f" ({alone / 2**30:.2f} GiB of the first process)")
    print(*(told or ["no estimate: less than a moment"]), sep="\n")
    print(*(line for line in lines if re.search(r" computed in \d", line)), sep="\n")


if __name__ == "__main__":
    main()
