"""What a study of DeepSeek-V3.2 would take on machines that are not here: an estimate, with its arithmetic.

    python benchmarks/scale.py [--samples 1000] [--length 32768] [--file-of CHECKPOINT]
    python benchmarks/scale.py --flops 4e14 --read 6e9 --memory 141 [--host 2000] [--devices 8] [--nodes 4]

The model is its published configuration, without weights: what a token passes through and what a layer takes is told by
transformers' own modules, as a dry run tells it, and attention and indexer are counted by the formulas of the reports.
Two things are measured: what this machine computes and reads, which makes its row, and, by benchmarks/extraction.py,
what features take beyond the chunked forward (--ratio). The rates of accelerators are assumptions: two fifths of the
bf16 rate of the datasheet, and a local drive. Rates that are handed in make one more row.

Only `extract` is counted: audit, profile, close-up and analyses look at some samples or at what is stored.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from indexscope.analysis.conventions import EXPANDED
from indexscope.analysis.flops import AttentionLayer, Shape, flops
from indexscope.analysis.free_memory import available_bytes
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.model_skeleton import load_skeleton
from indexscope.storage.inputs.streamed.sizes import Sizes, reading_speed, sizes
from indexscope.tasks.common.placing import STATES, product_rate

HERE = Path(__file__).parent
#: As published with the weights (huggingface.co/deepseek-ai/DeepSeek-V3.2, config.json).
PUBLISHED = {
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "vocab_size": 129_280,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "index_topk": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "first_k_dense_replace": 3,
    "max_position_embeddings": 163_840,
    "tie_word_embeddings": False,
}
#: Bytes of a weight as published, in blocks of float8.
STORED = 1
GB = 1e9


@dataclass(frozen=True)
class Machine:
    """Where the study would run.

    Attributes:
        name: What the table calls it.
        flops: Operations a second of a device, as products of a layer reach them.
        read: Bytes a second that a node reads of the checkpoint.
        memory: Bytes of a device.
        host: Bytes of a node's own memory, in which hidden states wait.
        devices: Devices of a node, each with a worker.
        nodes: Nodes.
        assumed: Whether the rates are assumptions.
    """

    name: str
    flops: float
    read: float
    memory: float
    host: float
    devices: int = 1
    nodes: int = 1
    assumed: bool = True


#: Rates of the datasheets (bf16, dense: 989 TFLOP/s of H100 and H200), of which long products reach two fifths or so.
SHARE = 0.4
MACHINES = (
    Machine("1 x 80 GB", SHARE * 989e12, 6e9, 80e9, 256e9),
    Machine("8 x 141 GB", SHARE * 989e12, 12e9, 141e9, 2000e9, 8),
    Machine("4 nodes of 8 x 141 GB", SHARE * 989e12, 12e9, 141e9, 2000e9, 8, 4),
)


@dataclass(frozen=True)
class Model:
    """The model, as its modules and formulas tell it.

    Attributes:
        sizes: What is in memory in bf16, and what a token passes through.
        shape: What the cost formulas need.
        parameters: All of them.
    """

    sizes: Sizes
    shape: Shape
    parameters: int


@dataclass(frozen=True)
class Work:
    """FLOPs of a study's features, by part."""

    projections: float
    attention: float
    indexer: float
    features: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.projections + self.attention + self.indexer + self.features


@dataclass(frozen=True)
class Estimate:
    """What a study takes on a machine: samples a shard, passes of all weights on one node, and seconds."""

    machine: Machine
    shard: int
    passes: int
    states: float
    reading: float
    computing: float

    @property
    def least(self) -> float:
        """Seconds where weights are read while others compute."""
        return max(self.reading, self.computing)

    @property
    def most(self) -> float:
        """Seconds where one waits for the other."""
        return self.reading + self.computing


def published(config: dict[str, object] = PUBLISHED) -> Model:
    """The model of a configuration of the family, on the meta device."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        found, skeleton = sizes(Path(folder), "bfloat16"), load_skeleton(Path(folder), "bfloat16")
    named = {name: one.numel() for name, one in skeleton.named_parameters()}
    own = skeleton.config
    key = own.qk_nope_head_dim + own.qk_rope_head_dim
    latent = own.kv_lora_rank + own.qk_rope_head_dim
    layer = AttentionLayer(
        pair=2.0 * own.num_attention_heads * (key + own.v_head_dim),
        sparse=True,
        latent=2.0 * own.num_attention_heads * (latent + own.kv_lora_rank),
    )
    layers = own.num_hidden_layers
    shape = Shape(
        attention=(layer,) * layers,
        indexer_pair=layers * (2.0 * own.index_n_heads * own.index_head_dim + 2.0 * own.index_n_heads),
        indexer_token=2.0 * sum(count for name, count in named.items() if ".indexer." in name),
        top_k=own.index_topk,
    )
    return Model(found, shape, sum(named.values()))


def work(model: Model, samples: int, length: int, dense: int, ratio: float) -> Work:
    """FLOPs of extracting features, as Indexscope computes them.

    Attention is computed over all earlier keys, since what a selection misses is measured against it: by heads with
    keys and values of their own, as transformers does. Samples with a dense reference run once more without indexer.

    Args:
        model: The model.
        samples: How many.
        length: Tokens of each.
        dense: How many of them have a dense reference.
        ratio: What extraction takes of the chunked forward where attention is most of it.
    """
    one = flops(model.shape, np.array([float(length)]), EXPANDED)
    attention, indexer = float(one.dense_attention[0]), float(one.indexer[0])
    by_token = 2.0 * model.sizes.token - model.shape.indexer_token  # which is counted with the indexer
    return Work(
        projections=by_token * length * (samples + dense),
        attention=attention * (samples + dense),
        indexer=indexer * samples,
        features=(ratio - 1) * (attention + indexer) * samples,
    )


def estimate(model: Model, machine: Machine, samples: int, length: int, todo: Work) -> Estimate:
    """What the work takes on a machine, streamed: each shard of a worker is a pass over all weights."""
    workers = machine.devices * machine.nodes
    state = 2.0 * model.sizes.state * length * 2  # into and out of a layer, with and without selection
    room = STATES * machine.host / machine.devices
    shard = max(1, min(math.ceil(samples / workers), int(room // state)))
    passes = math.ceil(math.ceil(samples / shard) / machine.nodes) + 1  # the audit is one
    reading = passes * STORED * model.parameters / machine.read
    return Estimate(machine, shard, passes, shard * state, reading, todo.total / (machine.flops * workers))


def fits(model: Model, machine: Machine) -> bool:
    """Whether a device holds what is in memory of the weights at once."""
    return model.sizes.streamed <= machine.memory


def hours(seconds: float) -> str:
    """A time in words.

    >>> hours(90 * 60), hours(40 * 3600), hours(10 * 365.25 * 86400)
    ('1.5 h', '40 h', '10 years')
    """
    taken = seconds / 3600
    if taken >= 24 * 365:
        return f"{taken / 8766:,.2g} years" if taken < 876_600 else f"{taken / 8766:,.0f} years"
    return f"{taken:.1f} h" if taken < 10 else f"{taken:,.0f} h"


def arithmetic(model: Model, samples: int, length: int, dense: int, ratio: float, todo: Work) -> list[str]:
    """How the numbers come about, line by line."""
    found, tokens, runs = model.sizes, samples * length, (samples + dense) / samples
    attention = model.shape.attention[0]
    pairs = length * (length + 1) / 2
    layers = len(model.shape.attention)
    token = 2 * found.token - model.shape.indexer_token
    return [
        f"parameters {model.parameters / GB:,.1f} billion, of which a token meets {found.token / GB:,.1f} billion; "
        f"a pass reads {STORED * model.parameters / GB:,.0f} GB at {STORED} byte a weight",
        f"weights in memory at once {found.streamed / GB:,.0f} GB: two layers of {found.largest / GB:,.1f} GB in bf16",
        f"tokens {samples:,} x {length:,} = {tokens / 1e6:,.1f} million, runs {runs:g}: {dense:,} samples have a "
        "dense reference",
        f"projections and experts {token / GB:,.1f} GFLOP a token x {tokens / 1e6:,.1f} million x {runs:g} = "
        f"{todo.projections:.2e}",
        f"attention 2 x 128 heads x (192 + 128) = {attention.pair:,.0f} a pair x {layers} layers x {pairs:,.0f} pairs "
        f"x {samples:,} x {runs:g} = {todo.attention:.2e}",
        f"indexer {model.shape.indexer_pair / layers:,.0f} a pair x {layers} x {pairs:,.0f} x {samples:,}, and "
        f"{model.shape.indexer_token / GB:,.1f} GFLOP a token = {todo.indexer:.2e}",
        f"features {ratio - 1:.2f} x (attention and indexer of one run) = {todo.features:.2e}",
        f"together {todo.total:.2e} FLOPs",
    ]


def table(model: Model, found: list[Estimate]) -> list[str]:
    """The estimates as Markdown."""
    lines = [
        "| machine | TFLOP/s a device | GB/s a node | samples a shard | hidden states | passes a node | reading "
        "| computing | in all |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in found:
        machine = one.machine
        told = " (assumed)" if machine.assumed else ""
        cells = [
            f"{machine.name}{told}",
            f"{machine.flops / 1e12:,.3g}",
            f"{machine.read / GB:,.3g}",
            f"{one.shard:,}",
            f"{one.states / GB:,.1f} GB",
            f"{one.passes:,}",
            hours(one.reading),
            hours(one.computing),
            f"{hours(one.least)} to {hours(one.most)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for one in found:
        if not fits(model, one.machine):
            room = f"{one.machine.memory / GB:,.0f} GB"
            lines.append(f"\n{one.machine.name}: the weights in memory at once do not fit into {room}.")
    return lines


def measured_ratio(file: Path = HERE / "extraction.json") -> float:
    """What extraction took of the chunked forward of the DSA model at the longest length that was measured."""
    rows = [row for row in json.loads(file.read_text()) if row["model"] == "dsa"]
    longest = max(row["length"] for row in rows if row["method"] == "extract")
    at = {row["method"]: row["seconds"] for row in rows if row["length"] == longest}
    return float(at["extract"] / at["floor"])


def this_machine(file_of: Path) -> Machine:
    """This machine, measured."""
    settings = ExtractSettings(dtype="bfloat16", device="cpu")
    rate = max(product_rate(settings), product_rate(ExtractSettings(dtype="float32", device="cpu")))
    read, memory = reading_speed(file_of), available_bytes(torch.device("cpu"))
    if read is None:
        raise SystemExit(f"{file_of} has no weights to read")
    return Machine("this machine", rate, read, memory, memory, assumed=False)


def main() -> None:
    """Print the arithmetic and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--length", type=int, default=32_768, help="tokens of a sample")
    parser.add_argument("--file-of", type=Path, default=HERE.parent / "storage/builtin/baseline", metavar="CHECKPOINT")
    parser.add_argument("--ratio", type=float, help="extraction of the chunked forward; by default as measured")
    parser.add_argument("--flops", type=float, help="operations a second of a device")
    parser.add_argument("--read", type=float, help="bytes a second that a node reads")
    parser.add_argument("--memory", type=float, help="GB of a device")
    parser.add_argument("--host", type=float, default=256, help="GB of a node's own memory")
    parser.add_argument("--devices", type=int, default=1, help="devices of a node")
    parser.add_argument("--nodes", type=int, default=1)
    options = parser.parse_args()
    given = [options.flops, options.read, options.memory]
    if any(one is None for one in given) and any(one is not None for one in given):
        parser.error("--flops, --read and --memory belong together")
    machines = [this_machine(options.file_of), *MACHINES]
    if options.flops is not None:
        name = f"{options.nodes} x {options.devices} x {options.memory:g} GB, as handed in"
        own = Machine(name, options.flops, options.read, options.memory * GB, options.host * GB)
        machines.append(replace(own, devices=options.devices, nodes=options.nodes, assumed=False))
    model, ratio = published(), options.ratio or measured_ratio()
    dense = ExtractSettings().dense_samples(options.samples)
    todo = work(model, options.samples, options.length, dense, ratio)
    print("\n".join(f"- {line}" for line in arithmetic(model, options.samples, options.length, dense, ratio, todo)))
    print()
    found = [estimate(model, machine, options.samples, options.length, todo) for machine in machines]
    print("\n".join(table(model, found)))


if __name__ == "__main__":
    main()
