"""A checkpoint larger than the memory that it is studied in.

    python benchmarks/streamed.py FOLDER [--size 30] [--limit 4] [--samples 8] [--length 1024]
        [--whole] [--part 12] [--study] [--commits 60] [--experts] [--reads]

Makes a random DeepSeek-V3.2 with experts in bfloat16 of so many GiB in FOLDER, unless it is there, stored as such
checkpoints are published (every expert for itself). Then extracts features in a process that may take --limit GiB of
memory: RLIMIT_DATA, which counts what a process allocates and maps for writing, and not what the system keeps of
files. *anonymous* is the peak of that memory that was in use, *resident* of all, mapped pages of files included.
*reading once* is one pass over the files by itself, after the system has let go of them. --whole runs the same samples
with the weights in memory, without a limit, and compares all tables. --part runs them so through the first so many
layers, which is what can be had of a checkpoint that does not fit, and says what all layers would take. --study makes a
whole study of the checkpoint by the command line, with its report, in a control group that may take --limit GiB: all
processes together, with what the system keeps of files for them, of which it then keeps less. *anonymous* is the peak
of what is theirs alone. Where no group can be made, which takes root, the limit is that of each process.
--experts also runs it with all experts of a layer read with it, whatever tokens are routed to; the system has let go of
the files before both runs. Before, it reads all layers but the first of both kinds, in turns and alone, with
experts that --length tokens are routed to by chance.
--commits also runs it with what the pass has come to put away at most every so many seconds, and says what that takes;
0 puts it away after every layer.
--reads says how much of the checkpoint each step of a study reads that runs the model, and does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import torch

# The package of the same name as a file here must come before it.
sys.path.insert(0, str(Path(__file__).parents[1]))

LAYERS, HIDDEN, EXPERT, VOCABULARY, ROUTED = 48, 1024, 512, 8192, 2
#: Bytes of an expert: three matrices in bfloat16.
BYTES_OF_EXPERT = 3 * HIDDEN * EXPERT * 2
#: Bytes of a file: a mapped one counts whole towards the limit.
SHARD = 128 << 20
#: Normal numbers that weights are taken from, each from a place of its own: to draw all takes longer than the study.
POOL = 1 << 24


def make(folder: Path, size: float) -> None:
    """Write the checkpoint, a file at a time."""
    from safetensors.torch import save_file
    from transformers import DeepseekV32Config, DeepseekV32ForCausalLM
    from transformers.core_model_loading import revert_weight_conversion

    experts = max(2 * ROUTED, round(size * 2**30 / LAYERS / BYTES_OF_EXPERT))
    config = DeepseekV32Config(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=4 * EXPERT, moe_intermediate_size=EXPERT,
        num_hidden_layers=LAYERS, first_k_dense_replace=1, num_attention_heads=16, num_key_value_heads=16,
        q_lora_rank=512, kv_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64,
        n_routed_experts=experts, n_shared_experts=1, num_experts_per_tok=ROUTED, n_group=1, topk_group=1,
        max_position_embeddings=16384, index_topk=256, index_n_heads=16, index_head_dim=64, dtype="bfloat16",
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        skeleton = DeepseekV32ForCausalLM(config).to(torch.bfloat16)
    random, places, part = torch.Generator().manual_seed(0), {}, {}
    drawn = torch.randn(POOL, generator=random).to(torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    names = revert_weight_conversion(skeleton, skeleton.state_dict())

    def write() -> None:
        file = f"model-{len(set(places.values())) + 1:05d}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(part, file))
        part.clear()

    for name, like in names.items():
        if like.ndim == 1:
            made = torch.zeros(like.shape) if "bias" in name else torch.ones(like.shape)
        else:
            start = int(torch.randint(POOL - like.numel() + 1, (), generator=random))
            made = drawn[start : start + like.numel()].view(like.shape) * like.shape[-1] ** -0.5
        part[name] = made.to(torch.float32 if "e_score" in name else torch.bfloat16).contiguous()
        if sum(tensor.nbytes for tensor in part.values()) >= SHARD:
            write()
    write()
    config.architectures = ["DeepseekV32ForCausalLM"]
    config.save_pretrained(folder)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def let_go(folder: Path) -> None:
    """Have the system forget what it has of the files."""
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_once(folder: Path) -> float:
    """Seconds that reading all files takes, none of them being in memory."""
    let_go(folder)
    began = time.perf_counter()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb", buffering=0) as opened:
            while opened.read(8 << 20):
                pass
    return time.perf_counter() - began


def read_layers(folder: Path, tokens: int, routed: bool) -> tuple[float, float, float]:
    """Wall and processor seconds that reading all layers with experts takes, and GiB; the system has none of them.

    Args:
        folder: The checkpoint.
        tokens: How many are routed to experts, each by chance.
        routed: Whether no other experts are read.
    """
    from indexscope.storage.inputs.streamed.weights import StreamedWeights

    weights, random = StreamedWeights(folder, "bfloat16", "cpu"), torch.Generator().manual_seed(0)
    modules = iter(weights.routed() if routed else ())
    let_go(folder)
    began, worked, before = time.perf_counter(), time.process_time(), weights.bytes_read
    for layer in weights.layers[1:]:
        weights.load(layer)
        for module in [next(modules)] if routed else []:
            count = int(module.num_experts)  # type: ignore[arg-type]
            chosen = torch.rand(tokens, count, generator=random).topk(ROUTED).indices
            weights.load_experts(module, set(chosen.flatten().tolist()))
        weights.drop(layer)
    taken = time.perf_counter() - began, time.process_time() - worked
    return *taken, (weights.bytes_read - before) / 2**30


class Peak(threading.Thread):
    """The most of a process' own memory that was in use, looked at 50 times a second."""

    def __init__(self, process: int | str = "self") -> None:
        super().__init__(daemon=True)
        self.status, self.anonymous, self.resident = Path(f"/proc/{process}/status"), 0, 0

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            try:
                told = dict(line.split(":", 1) for line in self.status.read_text().splitlines())
            except OSError:
                return
            if "RssAnon" not in told:  # it is ending
                return
            self.anonymous = max(self.anonymous, int(told["RssAnon"].split()[0]) << 10)
            self.resident = max(self.resident, int(told["VmRSS"].split()[0]) << 10)
            time.sleep(0.02)


class Group:
    """A control group of processes that may take so many bytes together, of version 1 or 2.

    Args:
        folder: Of the group; made.
        names: Of the files with the limit and, in ``memory.stat``, of anonymous memory.
        limit: Bytes.

    Raises:
        OSError: No group can be made.
    """

    def __init__(self, folder: Path, names: tuple[str, str], limit: int) -> None:
        folder.mkdir()
        self._folder, (most, self._anonymous) = folder, names
        try:
            (folder / most).write_text(str(limit))
        except OSError:
            folder.rmdir()
            raise

    @classmethod
    def of(cls, limit: float) -> Group | None:
        """A group of its own for so many GiB, if this user may make one here."""
        mount, name = Path("/sys/fs/cgroup"), f"indexscope-{os.getpid()}"
        for parent, names in (
            (mount / "memory", ("memory.limit_in_bytes", "total_rss")),
            (mount, ("memory.max", "anon")),
        ):
            with suppress(OSError):
                return cls(parent / name, names, int(limit * 2**30))
        return None

    def join(self) -> None:
        """Put this process and all that it will start into the group."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def anonymous(self) -> int:
        """Bytes that are the processes' own."""
        told = (line.split() for line in (self._folder / "memory.stat").read_text().splitlines())
        return next(int(value) for name, value in told if name == self._anonymous)

    def remove(self) -> None:
        """Let go of the group, once its processes have ended."""
        for _ in range(100):
            with suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.1)


class Committed:
    """Where commits of the pass go: a store beside the checkpoint.

    Attributes:
        seconds: What each took.
        bytes: Size of the last.
    """

    def __init__(self, folder: Path) -> None:
        from indexscope.storage.store.store import Store, step_key

        self.store, self.key = Store(folder.with_name(f"{folder.name}-store")), step_key("features", {})
        self.seconds: list[float] = []
        self.bytes = 0

    def over(self, of: str) -> None:
        """None: no pass of this job was before."""

    def keep(self, of: str, result: Any) -> None:
        """Never called: there is one pass."""

    @contextmanager
    def last(self, of: str) -> Iterator[None]:
        """None: every run begins anew."""
        yield None

    @contextmanager
    def commit(self, of: str, layer: int, layers: int) -> Iterator[IO[bytes]]:
        """Takes a commit."""
        from indexscope.storage.store import passes

        began = time.perf_counter()
        with passes.writing(self.store, self.key, "result", "x", passes.Standing("", of, layer, layers)) as file:
            yield file
            self.bytes = file.tell()
        self.seconds.append(time.perf_counter() - began)

    def goes_on(self, layer: int, layers: int) -> None:
        """Never called."""

    def warn(self, reason: str) -> None:
        """End: there is nothing to measure."""
        raise SystemExit(reason)


def study(
    folder: Path,
    placement: str,
    limit: float,
    samples: int,
    length: int,
    every: float | None = None,
    all_experts: bool = False,
) -> dict[str, Any]:
    """Extract features in this process, and say what that took."""
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30), resource.RLIM_INFINITY))
    peak = Peak()
    peak.start()
    from indexscope.analysis.capture.streaming import commits
    from indexscope.analysis.features import extract_samples
    from indexscope.analysis.settings import ExtractSettings
    from indexscope.storage.inputs.checkpoints import CheckpointFolder
    from indexscope.storage.inputs.samples import Sample
    from indexscope.storage.inputs.streamed.weights import StreamedWeights
    from indexscope.storage.store.parquet import encode
    from indexscope.tasks.common import placing

    if all_experts:
        StreamedWeights.routed = lambda weights: []  # type: ignore[method-assign]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    random = torch.Generator().manual_seed(1)
    given = [
        Sample(index, f"s{index}", tuple(torch.randint(VOCABULARY, (length,), generator=random).tolist()))
        for index in range(samples)
    ]
    origin, began = CheckpointFolder(str(folder)), time.perf_counter()
    settings = ExtractSettings(dtype="bfloat16", device="cpu", placement=placement, chunk=128)  # type: ignore[arg-type]
    chosen = placing.placement(origin, settings)
    source: Any = placing.placed(origin, settings, chosen.kind)
    loaded = time.perf_counter() - began
    committed = None if every is None else Committed(folder)
    with nullcontext() if committed is None else commits.committing(committed):
        if every is not None:
            commits.LEAST, commits.TIMES = every, commits.TIMES if every else 0.0
        tables = extract_samples(source, given, settings)
    seconds = time.perf_counter() - began
    from indexscope.analysis.features.columns import FEATURES

    content = b"".join(encode(tables[name], FEATURES[name]) for name in sorted(tables))
    weights = getattr(source, "_weights", None)
    net: dict[str, Any] = {}
    if committed is not None:
        net = {
            "commits": len(committed.seconds),
            "of them committing": round(sum(committed.seconds), 2),
            "longest commit": round(max(committed.seconds, default=0.0), 2),
            "MiB of the last commit": round(committed.bytes / 2**20, 1),
        }
    return {
        **net,
        "placement": chosen.kind,
        "why": chosen.why,
        "seconds": round(seconds, 1),
        "of them fitting or loading": round(loaded, 1),
        "of them reading in a sweep": round(getattr(source, "loading_seconds", 0.0), 1),
        "GiB read": round(getattr(weights, "bytes_read", 0) / 2**30, 2),
        "anonymous GiB": round(peak.anonymous / 2**30, 2),
        "resident GiB": round(peak.resident / 2**30, 2),
        "tables": hashlib.sha256(content).hexdigest()[:16],
    }


def part_of(folder: Path, layers: int) -> Path:
    """The same checkpoint with its first layers alone; its files are links."""
    part = folder.with_name(f"{folder.name}-first-{layers}")
    part.mkdir(exist_ok=True)
    for file in folder.iterdir():
        link = part / file.name
        if file.name != "config.json" and not link.exists():
            link.symlink_to(file.resolve())
    config = json.loads((folder / "config.json").read_text())
    for key, value in config.items():
        if isinstance(value, list) and len(value) == LAYERS:
            config[key] = value[:layers]
    (part / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    return part


def whole_study(folder: Path, limit: float, samples: int, length: int) -> dict[str, Any]:
    """Make a study by the command line, beside the checkpoint."""
    random = torch.Generator().manual_seed(1)
    rows = [{"input_ids": torch.randint(VOCABULARY, (length,), generator=random).tolist()} for _ in range(samples)]
    place = folder.with_name(f"{folder.name}-study")
    place.mkdir(exist_ok=True)
    (place / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "study.yaml").write_text(
        f"name: large\nbaseline: {{path: {folder.resolve()}, name: large}}\n"
        f"dataset: {{source: data.jsonl, column: input_ids, max_length: {length}, samples: null}}\n"
        "extract: {dtype: bfloat16, device: cpu, placement: stream, chunk: 128, profile_lengths: [256]}\n"
        f"shard_size: {samples}\n"
    )
    command = [sys.executable, "-c", "from indexscope.flows.start import main; main()", "study", "study.yaml"]
    group, began = Group.of(limit) if limit else None, time.perf_counter()

    def limited() -> None:
        if group is not None:
            group.join()
        elif limit:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30), resource.RLIM_INFINITY))

    process = subprocess.Popen(command, cwd=place, preexec_fn=limited)
    peak = Peak(process.pid)
    peak.start()
    together = 0
    while process.poll() is None:
        together = max(together, group.anonymous() if group is not None else 0)
        time.sleep(0.05)
    if group is not None:
        group.remove()
    return {
        "exit code": process.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "report": [str(file.relative_to(place)) for file in place.glob("reports/*/*.html")],
        "limit": "of the control group" if group is not None else "of each process" if limit else "none",
        "anonymous GiB of all processes": round(together / 2**30, 2),
        "anonymous GiB": round(peak.anonymous / 2**30, 2),
        "resident GiB": round(peak.resident / 2**30, 2),
    }


def reads(folder: Path, samples: int, length: int) -> dict[str, Any]:
    """What each step reads that runs the model, and how long it takes."""
    from indexscope.analysis.capture.audit import audit_causality
    from indexscope.analysis.capture.journal import Journal
    from indexscope.analysis.capture.profile import profile_model
    from indexscope.analysis.capture.streaming.model import StreamedModel
    from indexscope.analysis.closeup.collect import Look
    from indexscope.analysis.closeup.looking import Looking
    from indexscope.analysis.closeup.run import makers_of, rerun_samples
    from indexscope.analysis.closeup.tables import TABLES
    from indexscope.analysis.features import extract_samples
    from indexscope.analysis.settings import CloseupSettings, ExtractSettings
    from indexscope.storage.inputs.samples import Sample
    from indexscope.storage.inputs.streamed.weights import StreamedWeights

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    random, settings, closeup = torch.Generator().manual_seed(1), ExtractSettings(dtype="bfloat16"), CloseupSettings()
    given = [
        Sample(index, f"s{index}", tuple(torch.randint(VOCABULARY, (length,), generator=random).tolist()))
        for index in range(samples)
    ]
    weights, sequences = StreamedWeights(folder, "bfloat16", "cpu"), [sample.input_ids for sample in given]
    source = StreamedModel(weights)
    makers, looked = makers_of(Look(range(samples), closeup)), dict[str, Any]()

    def features() -> None:
        tables = extract_samples(
            source, given, settings, Journal(), beside=lambda one: Looking(one, makers, closeup.queries)
        )
        looked.update({name: table for name, table in tables.items() if name in TABLES})

    found: dict[str, Any] = {}
    for step, work in {
        "audit": lambda: audit_causality(source, sequences),
        "times": lambda: profile_model(source, settings, Journal(), tokens=[length] * samples),
        "features and close-up": features,
        "reruns": lambda: rerun_samples(source, given, closeup, settings, looked, Journal()),
    }.items():
        before, began = weights.bytes_read, time.perf_counter()
        work()
        read = (weights.bytes_read - before) / 2**30
        found[step] = {"GiB read": round(read, 2), "seconds": round(time.perf_counter() - began, 1)}
    return {**found, "GiB read by all": round(weights.bytes_read / 2**30, 2)}


def apart(*arguments: object) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the study ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Make, read, study, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=float, default=30.0, help="GiB of the checkpoint")
    parser.add_argument("--limit", type=float, default=4.0, help="GiB that the study may take; 0 for no limit")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--whole", action="store_true", help="also run it with the weights in memory, and compare")
    parser.add_argument("--part", type=int, help="also run so many first layers in memory, and say what all would take")
    parser.add_argument("--study", action="store_true", help="also make a whole study of it, with its report")
    parser.add_argument("--commits", type=float, help="also commit the pass, so many seconds apart at least")
    parser.add_argument("--experts", action="store_true", help="also read all experts of every layer")
    parser.add_argument("--reads", action="store_true", help="say how much each step of a study reads, and no more")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        shape = given.samples, given.length, given.commits, given.experts
        print(json.dumps(study(given.folder, given.only, given.limit, *shape)))
        return
    if not (given.folder / "config.json").exists():
        make(given.folder, given.size)
    if given.reads:
        print(json.dumps(reads(given.folder, given.samples, given.length), indent=1))
        return
    stored = sum(file.stat().st_size for file in given.folder.glob("*.safetensors"))
    print(f"{stored / 2**30:.1f} GiB in {given.folder}; reading once takes {read_once(given.folder):.1f} s")
    shape = ("--samples", given.samples, "--length", given.length)
    if given.experts:
        for turn in range(1, 4):
            for routed in (False, True):
                wall, worked, read = read_layers(given.folder, given.samples * given.length, routed)
                told = "experts that tokens are routed to" if routed else "all experts"
                print(f"turn {turn}, {told}: {wall:.1f} s wall, {worked:.1f} s processor, {read:.2f} GiB")
        let_go(given.folder)
    streamed = apart(given.folder, "--only", "auto" if given.limit else "stream", "--limit", given.limit, *shape)
    print(f"limit {given.limit:g} GiB:" if given.limit else "no limit:", json.dumps(streamed, indent=1))
    if given.experts:
        let_go(given.folder)
        kind = ("--only", "auto" if given.limit else "stream", "--limit", given.limit)
        every = apart(given.folder, *kind, *shape, "--experts")
        print("all experts:", json.dumps(every, indent=1))
        read, took = streamed["GiB read"] / every["GiB read"], streamed["seconds"] / every["seconds"]
        print(f"{read:.2f} of the bytes and {took:.2f} of the time when they are read as tokens are routed to them")
        print("equal byte by byte" if every["tables"] == streamed["tables"] else "the tables DIFFER")
    if given.commits is not None:
        kind = ("--only", "auto" if given.limit else "stream", "--limit", given.limit)
        net = apart(given.folder, *kind, *shape, "--commits", given.commits)
        print(f"committed at most every {given.commits:g} s:", json.dumps(net, indent=1))
        share = net["of them committing"] / (net["seconds"] - net["of them fitting or loading"])
        print(f"{share:.2%} of the pass is committing; {net['seconds'] / streamed['seconds']:.3f} of the time without")
        print("equal byte by byte" if net["tables"] == streamed["tables"] else "the tables DIFFER")
    if given.part:
        layers = apart(part_of(given.folder, given.part), "--only", "whole", "--limit", 0, *shape)
        running = layers["seconds"] - layers["of them fitting or loading"]
        told = f"{given.part} of {LAYERS} layers in memory: {running:.1f} s without loading"
        print(f"{told}; all would take {running * LAYERS / given.part:.0f} s")
    if given.study:
        print("study:", json.dumps(whole_study(given.folder, given.limit, given.samples, given.length), indent=1))
    if given.whole:
        whole = apart(given.folder, "--only", "whole", "--limit", 0, *shape)
        print("whole:", json.dumps(whole, indent=1))
        print("equal byte by byte" if whole["tables"] == streamed["tables"] else "the tables DIFFER")


if __name__ == "__main__":
    main()
