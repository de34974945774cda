"""How much memory this process can still take, and amounts in words; light to import, since plans ask for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch


def available_bytes(device: torch.device) -> int:
    """Memory that this process can still take on a device, in bytes.

    On the CPU the least of what the machine has, what its control group allows and what the process' own limit leaves.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [amount for read in (_machine, control_group, _own_limit) if (amount := _try(read)) is not None]
    return max(0, min(found, default=1 << 30))


def size_of(amount: float) -> str:
    """Bytes in words.

    >>> size_of(3 << 30), size_of(5 << 20)
    ('3.0 GiB', '5 MiB')
    """
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"


def _try(read: Callable[[], int | None]) -> int | None:
    try:
        return read()
    except (OSError, ValueError, IndexError, ImportError):
        return None


def _machine() -> int | None:
    file = Path("/proc/meminfo")
    if file.exists():
        lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) << 10 if "MemAvailable" in lines else None
    # Systems without /proc tell how much there is, not how much is free.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def control_group(groups_file: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the memory controller (version 2, then 1) leaves, its file cache counted as free; None without a limit."""
    groups = {parts[1]: parts[2] for parts in (line.split(":", 2) for line in _text(groups_file).splitlines())}
    for name, root, limit, used, cache in (
        ("", mount, "memory.max", "memory.current", "inactive_file"),
        ("memory", mount / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if name not in groups:
            continue
        # Inside a container the group's own folder is mounted at the root.
        for folder in (root / groups[name].lstrip("/"), root):
            if (folder / limit).is_file():
                most = _text(folder / limit).strip()
                if most == "max":
                    break
                statistics = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
                return int(most) - int(_text(folder / used)) + int(statistics.get(cache, 0))
    return None


def _own_limit() -> int | None:
    """What limits of the process itself leave: of addresses, and of memory that it allocates or maps for writing."""
    import resource

    taken = [int(pages) * resource.getpagesize() for pages in _text("/proc/self/statm").split()]
    limits = ((resource.RLIMIT_AS, taken[0]), (resource.RLIMIT_DATA, taken[5]))
    found = [(resource.getrlimit(kind)[0], used) for kind, used in limits]
    return min((soft - used for soft, used in found if soft != resource.RLIM_INFINITY), default=None)


def _text(path: Path | str) -> str:
    return Path(path).read_text()
