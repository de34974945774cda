"""Reading the file of a fit: every mistake as one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from indexscope import IndexscopeError
from indexscope.flows.errors import StudyError
from indexscope.flows.fitting.config import Fit
from indexscope.flows.study.load import Place, override, read_settings
from indexscope.flows.study.problems import problems_of
from indexscope.secrets import refuse_secrets


def load_fit(path: str | Path, overrides: Sequence[str] = ()) -> Fit:
    """Read and validate the file of a fit; relative paths are relative to it.

    Args:
        path: The file.
        overrides: ``key.key=value`` settings that go before the file's.

    Raises:
        StudyError: All that is wrong, one line each.
        IndexscopeError: The file cannot be read, or is no YAML.
    """
    file, title = Path(path), str(path)
    raw = read_settings(file, title, "write one as docs/fitting.md has it")
    changed = [override(raw, text) for text in overrides]
    try:
        fit = Fit.model_validate(raw)
    except ValidationError as error:
        raise StudyError(problems_of(error, title, changed, Fit)) from None
    for key, address in {"model": fit.model, "out": fit.out, "dataset.source": fit.dataset.source}.items():
        refuse_secrets(address, f"{title}: {key}")
    place, problems = Place(file.parent.resolve(), title), list[IndexscopeError]()
    model = place.source(fit.model, "model", problems, "checkpoint folder or hub name")
    source = place.source(fit.dataset.source, "dataset.source", problems, "file, folder or hub name")
    held_out = place.source(fit.held_out.source, "held_out.source", problems, "file, folder or hub name")
    if "://" in fit.out:
        problems.append(IndexscopeError(f"{title}: out", f"{fit.out} is an address", "give a local folder"))
    if problems:
        raise StudyError(problems)
    return fit.model_copy(
        update={
            "model": model,
            "out": place.target(fit.out),
            "dataset": fit.dataset.model_copy(update={"source": source, "max_length": fit.length}),
            "held_out": fit.held_out.model_copy(update={"source": held_out}),
        }
    )
