"""How long the fingerprint of a large checkpoint takes, sampled and full, beside reading the same bytes.

    python benchmarks/fingerprints.py FOLDER [--gib 8] [--rounds 3]

It writes a checkpoint of random bytes into the folder, which must not exist and is deleted at the end: safetensors
files of 2 GiB with the tensors of a mixture of experts (22 MiB matrices, small norms). *Cold* figures are taken
after the system was asked to drop the files from memory (posix_fadvise); *warm* ones with the files in memory. Round by
round all are measured; figures are medians, ratios are to reading every byte in the same state.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.storage.inputs.fingerprints import fingerprint

FILE = 2 * 2**30
#: Bytes of a matrix (bfloat16, 7168 x 1536) and of a norm.
MATRIX, NORM = 7168 * 1536 * 2, 7168 * 2
PIECE = 2**22


def write(folder: Path, size: int) -> tuple[int, int]:
    """Write a checkpoint of about so many bytes; its bytes and its tensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    block = os.urandom(MATRIX)
    names: dict[str, str] = {}
    total = tensors = 0
    for number in range(max(1, size // FILE)):
        file = f"model-{number:05}.safetensors"
        count = min(FILE, size) // (MATRIX + NORM)
        header, offset = {}, 0
        for index in range(count):
            for kind, shape in (("matrix", [7168, 1536]), ("norm", [7168])):
                length = MATRIX if kind == "matrix" else NORM
                header[f"{number}.{index}.{kind}"] = {
                    "dtype": "BF16",
                    "shape": shape,
                    "data_offsets": [offset, offset + length],
                }
                offset += length
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _ in range(count):
                out.write(block)
                out.write(block[:NORM])
            out.flush()
            os.fsync(out.fileno())
        names |= dict.fromkeys(header, file)
        total, tensors = total + offset, tensors + len(header)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return total, tensors


def read(folder: Path) -> None:
    """Read every byte of the weights and do nothing with it."""
    for file in folder.glob("*.safetensors"):
        with file.open("rb", buffering=0) as source:
            while source.read(PIECE):
                pass


def forget(folder: Path) -> None:
    """Have the system drop the files from memory."""
    for file in folder.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(act: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        size, tensors = write(options.folder, options.gib * 2**30)
        ways: dict[str, Callable[[], object]] = {
            "read every byte": lambda: read(options.folder),
            "sampled": lambda: fingerprint(options.folder, "sampled"),
            "full": lambda: fingerprint(options.folder, "full"),
        }
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for state in ("cold", "warm"):
                for name, act in ways.items():
                    if state == "cold":
                        forget(options.folder)
                    else:
                        read(options.folder)
                    times.setdefault((state, name), []).append(seconds(act))
        print(f"{size / 2**30:.1f} GiB, {tensors} tensors\n")
        print("| files | | seconds | of reading |\n| --- | --- | ---: | ---: |")
        for (state, name), found in times.items():
            middle, reading = statistics.median(found), statistics.median(times[state, "read every byte"])
            print(f"| {state} | {name} | {middle:.2f} | {middle / reading:.3f} |")
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
