"""Train the sparse model and its leaking twin, about a minute on two cores, and write the data of the study.

usage: python train.py [STEPS]
"""

import json
import sys
import sysconfig
from pathlib import Path

import torch
from models import SparseModel
from torch.nn import functional

FOLDER, LENGTH = Path(__file__).parent, 256


def main(steps):
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [file.read_bytes() for file in files if file.stat().st_size > 8 * LENGTH]
    held_out, seen = texts[::10], b"".join(text for place, text in enumerate(texts) if place % 10)
    with (FOLDER / "data.jsonl").open("w") as lines:
        for text in held_out:
            lines.write(json.dumps({"input_ids": list(text[LENGTH : 2 * LENGTH])}) + "\n")
    (FOLDER / "runs").mkdir(exist_ok=True)
    for name, settings in {"sparse": {}, "leaking": {"leaks": True}}.items():
        torch.manual_seed(0)
        model = SparseModel(**settings)
        train(model, torch.frombuffer(bytearray(seen), dtype=torch.uint8).long(), name, steps)
        torch.save(model.state_dict(), FOLDER / "runs" / f"{name}.pt")


def train(model, tokens, name, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        starts = torch.randint(len(tokens) - LENGTH, (4,))
        ids = torch.stack([tokens[start : start + LENGTH + 1] for start in starts])
        logits, index_loss = model(ids[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        (loss + index_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"{name}: step {step} of {steps}, {loss.item():.2f} nats a byte", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
