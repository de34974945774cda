"""What a run's timings depend on: the machine."""

from __future__ import annotations

import platform
from pathlib import Path

from indexscope.storage.store import JSON
from indexscope.tasks.common.models import cores

CPUINFO = Path("/proc/cpuinfo")


def machine(device: str) -> dict[str, JSON]:
    """System, processor, cores that a run may use, and device; of an accelerator its name too.

    Args:
        device: Type of the device that models run on: "cpu", "cuda".
    """
    found: dict[str, JSON] = {
        "system": platform.system(),
        "processor": processor(),
        "cores": cores(),
        "device": device,
    }
    if device == "cuda":
        import torch

        found["accelerator"] = torch.cuda.get_device_name()
    return found


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Name and architecture of the processor: two that differ in name alone differ in speed.

    Args:
        cpuinfo: Where Linux tells the name.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, "") or platform.processor()
    architecture = platform.machine()
    return f"{name} ({architecture})" if name and name != architecture else architecture
