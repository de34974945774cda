"""The command figure: one figure of a finished study, for a paper or a talk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from indexscope import IndexscopeError
from indexscope.flows.cli.declared import Command

_LEAST, _MOST = 20.0, 1000.0
"""Sizes that can be drawn, in mm."""


def figure(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Study file, store, or folder of a report; its study has finished.")
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The figure; without one, all are listed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write: .pdf, .svg, .png, or .csv (its data).")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model, for a figure of one model.")] = None,
    width: Annotated[
        str | None, typer.Option(metavar="MM", help="Width in mm, or column (89), text (140) or page (183).")
    ] = None,
    height: Annotated[
        float | None, typer.Option(metavar="MM", help="Height in mm; else it follows from the width.")
    ] = None,
    study: Annotated[str | None, typer.Option(metavar="NAME", help="Which study of a store.")] = None,
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="Where the results of a report are; by default .indexscope.")
    ] = None,
) -> None:
    """Draw one figure of a finished study for print, from its stored results; no model is run.

    Without a NAME, list the figures. The last line on stdout is the file.
    """
    kind = None if name is None else _kind(out)
    size = None if kind == "csv" else (_width(width), _millimetres("--height", height))
    if out is not None and name is None:
        raise IndexscopeError(f"--out {out}", "there is no figure to write", "name the figure before it")
    if out is not None and out.is_dir():
        raise IndexscopeError(f"--out {out}", "is a folder", "name a file in it")
    if out is not None and not out.parent.is_dir():
        raise IndexscopeError(f"--out {out}", f"{out.parent} is no folder", "make it first, or choose another")
    from indexscope.flows.finished.figures import finished_study, offered, one_figure, read_shown

    shown = read_shown(finished_study(source, study, store))
    if name is None:
        for one in offered(shown):
            of = f"  (--model {' | '.join(one.models)})" if one.models else ""
            typer.echo(f"{one.name:<22} {one.title}{of}")
        return
    from indexscope.analysis.plots.sized import as_file, sized

    drawn = one_figure(shown, name, model)
    assert drawn.figure is not None and out is not None and kind is not None
    if size is not None:
        sized(drawn.figure, *size)
    content = as_file(drawn.figure, kind, drawn.title, drawn.caption)
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_bytes(content)
        part.replace(out)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise IndexscopeError(f"--out {out}", f"cannot be written: {error.strerror}", "choose another file") from error
    typer.echo(f"{drawn.title}. {drawn.caption}", err=True)
    typer.echo(str(out))


def _kind(out: Path | None) -> Any:
    from indexscope.analysis.plots.sized import FORMATS

    if out is None:
        raise IndexscopeError("--out", "is missing", f"name the file to write: .{', .'.join(FORMATS)}")
    kind = out.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise IndexscopeError(
            f"--out {out}", f"has no known ending {out.suffix!r}", f"end it in .{', .'.join(FORMATS)}"
        )
    return kind


def _width(text: str | None) -> float | None:
    from indexscope.analysis.plots.sized import WIDTHS

    if text is None or text in WIDTHS:
        return None if text is None else WIDTHS[text]
    try:
        return _millimetres("--width", float(text))
    except ValueError:
        raise IndexscopeError(f"--width {text}", "is no number", f"give mm, or one of {', '.join(WIDTHS)}") from None


def _millimetres(option: str, value: float | None) -> float | None:
    if value is not None and not _LEAST <= value <= _MOST:
        raise IndexscopeError(f"{option} {value:g}", "is no size to draw", f"give {_LEAST:g} to {_MOST:g} mm")
    return value


COMMAND = Command(
    "figure",
    figure,
    place=65,
    examples=(
        "indexscope figure study.yaml",
        "indexscope figure study.yaml recall --out recall.pdf --width column",
    ),
)
