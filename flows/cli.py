"""The command line. Heavy packages are imported inside the commands that need them, so that help comes at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from indexscope import IndexscopeError, __version__
from indexscope.flows.difference_cli import register as register_difference
from indexscope.flows.errors import internal_error, lines_of
from indexscope.flows.interrupt import INTERRUPTED, listening, tell_interrupted
from indexscope.flows.store_cli import register
from indexscope.flows.terminal import lasting_output
from indexscope.foreign import reading

BAD_INPUT, INTERNAL = 2, 70

app = typer.Typer(
    name="indexscope",
    help="What a lightning indexer selects, misses and costs over a dataset, and what an optimised one changed.",
    epilog="Exit codes: 0 done, 1 a gate failed or data is damaged, 2 bad input, 3 something failed and is missing "
    "(run again), 70 a defect of this program, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM, SIGHUP).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", readable=False, help="Study file; without one, the built-in study.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value for this run, e.g. extract.chunk=128."),
]
Refresh = Annotated[
    list[str] | None,
    typer.Option(
        "--refresh",
        metavar="STEP",
        help="Compute a step even if the store has it: extract, probe, audit, profile, analyze (or one analysis, e.g. "
        "clustering), compare, report, all. What follows runs again if other bytes come out.",
    ),
]
Full = Annotated[
    bool, typer.Option("--full-fingerprint", help="Hash every byte of the checkpoints; as --set fingerprint=full.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run and what the store has; run no model.")]


@app.command()
def init(
    file: Annotated[Path, typer.Argument(readable=False, help="Where to write it.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented study file with every setting, its meaning and its default."""
    from indexscope.flows.template import study_template

    try:
        told = reading(file, "give another place", "cannot be written", passing=FileExistsError)
        with told, file.open("w" if force else "x", encoding="utf-8") as handle:
            handle.write(study_template())
    except FileExistsError:
        raise IndexscopeError(file, "exists already", "give another name, or --force to overwrite it") from None
    typer.echo(f"wrote {file}; next: indexscope study {file} --dry-run")


@app.command()
def study(
    file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False, dry_run: DryRun = False
) -> None:
    """Run a study from checkpoints and a dataset to the report; what the store has is not computed again.

    The last line on stdout is the report's folder.
    """
    if dry_run:
        _show_plan(file, _with(overrides, full), refresh)
    else:
        _run("study", file, _with(overrides, full), refresh)


@app.command()
def extract(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Run the models over the dataset and store their features."""
    _run("extract", file, _with(overrides, full), refresh)


@app.command()
def analyze(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Analyse the stored features of every model."""
    _run("analyze", file, _with(overrides, full), refresh)


@app.command()
def compare(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Compare the candidates with the baseline, from the stored analyses."""
    _run("compare", file, _with(overrides, full), refresh)


@app.command()
def report(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Write the report of what is stored. The last line on stdout is its folder."""
    _run("report", file, _with(overrides, full), refresh)


@app.command()
def serve(
    file: Annotated[Path, typer.Argument(readable=False, help="Study file.")],
    cron: Annotated[str | None, typer.Option(help='Schedule, e.g. "0 3 * * *" for every night at three.')] = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the deployment; by default the file's.")] = None,
) -> None:
    """Serve a study as a Prefect deployment, on a schedule or for runs started from Prefect."""
    from indexscope.flows.serving import serve_study

    serve_study(file, cron, overrides or [], name)


register_difference(app)


@app.command(name="ls")
def list_store(
    store: Annotated[str, typer.Argument(help="Folder or URL of the store.")] = ".indexscope",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List what a store holds, one line a step."""
    from indexscope.flows.store_table import print_store

    print_store(store, as_json)


register(app)


@app.command(name="train-demo")
def train_demo(
    folder: Annotated[Path, typer.Argument(readable=False, help="Where to put the models.")] = Path("demo-models"),
) -> None:
    """Train the built-in models from nothing; takes an hour or two."""
    from indexscope.flows.preflight import check_prefect
    from indexscope.storage.writable import refuse_unwritable

    refuse_unwritable(folder, "FOLDER")
    check_prefect()
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as ready:
        ready()
        from indexscope.flows.train_demo import train_demo as train_flow

        train_flow(folder)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> NoReturn:
    """Run the command line."""
    with listening(), lasting_output():
        sys.exit(_ended())


def _ended() -> int:
    """The one place where errors become lines and exit codes."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer answers an interrupt with a code or, in other versions, with Abort
            raise KeyboardInterrupt
    except IndexscopeError as error:
        code = _complain(lines_of(error), BAD_INPUT)
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _unforeseen(error)
    return code if isinstance(code, int) else 0


def _unforeseen(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # a mistake in the command line
        error.show()
        return int(error.exit_code)
    if type(error).__name__ == "Abort":
        return _interrupted()
    return _complain([internal_error(error)], INTERNAL)


def _interrupted() -> int:
    tell_interrupted()
    return INTERRUPTED


def _complain(lines: list[str], code: int) -> int:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
    return code


def _with(overrides: list[str] | None, full: bool) -> list[str]:
    return [*(overrides or []), *(["fingerprint=full"] if full else [])]


def _run(name: str, file: Path | None, overrides: list[str], refresh: list[str] | None) -> None:
    from indexscope.flows.run import run_flow

    outcome = run_flow(name, None if file is None else str(file), overrides, refresh)
    _complain(list(outcome.messages), outcome.code)
    if outcome.folder is not None:
        from indexscope.flows.narrate import (
            short,  # here: it imports Prefect, whose settings `run_flow` has checked first
        )

        typer.echo(short(outcome.folder))
    raise typer.Exit(outcome.code)


def _show_plan(file: Path | None, overrides: list[str], refresh: list[str] | None) -> None:
    from indexscope.flows.load import load_study
    from indexscope.flows.preflight import check_folders
    from indexscope.flows.refresh import chosen

    read = load_study(file, overrides)
    check_folders(read, "study")
    from indexscope.flows.plan import make_plan
    from indexscope.flows.plan_table import print_plan

    print_plan(make_plan(read, chosen(refresh or [], "study")))


if __name__ == "__main__":
    main()
