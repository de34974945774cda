"""How the work is spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from indexscope.settings import Frozen
from indexscope.storage.inputs.fingerprints import FingerprintMode

#: Workers that "auto" takes at most: one core each pays best for a small model, and each holds a model of its own.
MOST = 4
#: Tokens of a model of `SMALL` parameters from which worker processes repay their start, about four seconds each.
WORTH, SMALL = 16_384, 3_000_000
#: Memory of a worker process in bytes beside its model, and of a model while it is loaded, in sizes of its weights.
PROCESS, LOADING = 2 << 30, 2


#: Settings of the runner that only a cluster has.
OF_A_CLUSTER = ("address", "cpus_per_worker", "gpus_per_worker", "patience")


class RunnerSettings(Frozen):
    """How the work is spread over this machine, or a cluster; it changes no result."""

    kind: Literal["auto", "threads", "processes", "ray"] = Field(
        default="auto",
        description="Workers of one process, processes, or a Ray cluster (docs/clusters.md); "
        "auto takes processes for more than one worker on a CPU.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        default="auto",
        description="Units worked on at once; the cores are shared out among them. "
        "Auto takes up to 4 where the models, the samples, the cores and the memory make several worthwhile.",
    )
    address: Annotated[str, Field(max_length=300)] | None = Field(
        default=None,
        description="Of ray: auto for the cluster that this machine belongs to, or ray://HOST:10001; "
        "by default one is started on this machine.",
    )
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, description="Of ray: cores of a worker.")
    gpus_per_worker: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0, description="Of ray: GPUs of a worker; 0 runs models on CPUs."
    )
    patience: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=60, description="Of ray: seconds that a cluster has to make room; one that grows needs more."
    )

    @model_validator(mode="after")
    def _only_of_a_cluster(self) -> RunnerSettings:
        given = [name for name in OF_A_CLUSTER if getattr(self, name) != type(self).model_fields[name].default]
        if self.kind != "ray" and given:
            raise ValueError(f"has {given[0]}, which only a cluster has; set kind to ray, or leave it out")
        if self.address and self.address != "auto" and not self.address.startswith("ray://"):
            raise ValueError(f"has the address {self.address!r}; give auto, or ray://HOST:10001")
        if self.address and self.workers == "auto":
            raise ValueError("names a cluster, but not how many workers of it to take; set workers to a number")
        return self

    @property
    def device(self) -> str:
        """Type of the device that a cluster's workers run models on."""
        return "cuda" if self.gpus_per_worker else "cpu"


class Cluster(Frozen):
    """Where a study's workers are, and what they are to find there.

    Attributes:
        address: As `RunnerSettings` has it; "" for one on this machine.
        cpus: Cores of a worker.
        gpus: GPUs of a worker.
        patience: Seconds to wait for room.
        store: The study's store, as every worker is to see it.
        fingerprint: How much of a checkpoint a worker hashes before it loads it.
    """

    address: str = ""
    cpus: int = 1
    gpus: int = 0
    patience: int = 60
    store: str = ""
    fingerprint: FingerprintMode = "sampled"


class Spread(Frozen):
    """The runner that a study gets.

    Attributes:
        kind: "threads", "processes" or "ray".
        workers: Units worked on at once.
        cluster: Where the workers of "ray" are.
    """

    kind: Literal["threads", "processes", "ray"] = "threads"
    workers: int = Field(1, ge=1)
    cluster: Cluster | None = None


#: For what the store has already.
LOOKUP = Spread(kind="threads", workers=4)


def spread(
    wanted: RunnerSettings,
    device: str,
    tokens: int,
    models: Iterable[tuple[int, int]],
    shards: int,
    cores: int,
    memory: int,
) -> Spread:
    """The runner that settings come to for some work on some machine; `cluster` adds where that of "ray" is.

    Args:
        wanted: The settings.
        device: Type of the device: a GPU is shared by threads, since each process would hold a context of its own.
        tokens: Tokens of all samples.
        models: Parameters of each model that is run, and bytes of its weights; 0 where nobody knows.
        shards: Shards of each model.
        cores: Cores of this machine.
        memory: Free memory in bytes.
    """
    if wanted.kind == "ray":
        return Spread(kind="ray", workers=_on_cluster(wanted, cores, shards))
    workers = wanted.workers if wanted.workers != "auto" else 1
    if wanted.workers == "auto" and wanted.kind != "threads" and device == "cpu":
        known = list(models)
        work = sum(tokens * max(1.0, parameters / SMALL) for parameters, _ in known)
        each = PROCESS + LOADING * max((size for _, size in known), default=0)
        if work >= WORTH or wanted.kind == "processes":
            workers = max(1, min(MOST, cores, shards, memory // each))
    if wanted.kind != "auto":
        return Spread(kind=wanted.kind, workers=workers)
    return Spread(kind="processes" if workers > 1 and device == "cpu" else "threads", workers=workers)


def cluster(wanted: RunnerSettings, store: str, fingerprint: FingerprintMode) -> Cluster:
    """The cluster that settings name, and what its workers are to find there."""
    return Cluster(
        address=wanted.address or "",
        cpus=wanted.cpus_per_worker,
        gpus=wanted.gpus_per_worker,
        patience=wanted.patience,
        store=store,
        fingerprint=fingerprint,
    )


def _on_cluster(wanted: RunnerSettings, cores: int, shards: int) -> int:
    """Workers of a cluster; of one on this machine as many as its cores hold."""
    if wanted.workers != "auto":
        return wanted.workers
    return max(1, min(MOST, shards, cores // wanted.cpus_per_worker))
