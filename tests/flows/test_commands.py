"""A command is one file, and the help is all of them."""

from __future__ import annotations

import pkgutil
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup

from indexscope.flows.cli import commands
from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.main import application, found
from tests.flows.conftest import run_command

NAMES = [
    "init",
    "study",
    "extract",
    "analyze",
    "compare",
    "report",
    "optimise",
    "figure",
    "serve",
    "apply",
    "fit",
    "diff",
    "ls",
    "verify",
    "gc",
    "export",
    "import",
    "history",
    "train-demo",
    "version",
]


def test_the_help_lists_every_command_once_in_the_order_of_use() -> None:
    listed = run_command("--help").out
    listed = listed[listed.index("Commands:") + 1 : listed.index("", listed.index("Commands:"))]
    assert [line.split()[0] for line in listed if line[2] != " "] == NAMES


def test_a_file_is_called_as_its_command_and_no_two_share_a_place() -> None:
    files = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    assert files == {f"{name.replace('-', '_')}{'_' * (name == 'import')}" for name in NAMES}
    places = [command.place for command in found()]
    assert places == sorted(set(places))


def test_a_new_file_is_a_new_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greet.py").write_text(
        '"""A command."""\nfrom indexscope.flows.cli.declared import Command\n\n'
        'def greet(name: str) -> None:\n    """Greet."""\n    print(f"good day, {name}")\n\n'
        'COMMAND = Command("greet", greet, place=25, examples=("indexscope greet Ada",))\n'
    )
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    try:
        assert [command.name for command in found()][1:4] == ["study", "greet", "extract"]
        run = run_command("greet", "Ada")
    finally:
        sys.modules.pop("indexscope.flows.cli.commands.greet", None)
    assert (run.code, run.out) == (0, ["good day, Ada"])


def group_of_commands() -> TyperGroup:
    group = application()
    assert isinstance(group, TyperGroup)
    return group


@pytest.mark.parametrize("command", found(), ids=lambda command: command.name)
def test_the_help_of_a_command_ends_with_examples_that_can_be_typed(command: Command) -> None:
    assert 1 <= len(command.examples) <= 2
    assert run_command(command.name, "--help").out[-len(command.examples) :] == [f"    {x}" for x in command.examples]
    for example in command.examples:
        program, name, *arguments = shlex.split(example)
        assert (program, name) == ("indexscope", command.name)
        call = group_of_commands().commands[name]
        call.make_context(name, arguments)  # raises for an option that is not there, or an argument too many or few


def test_an_example_with_an_option_that_is_not_there_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --dry"):
        group_of_commands().commands["diff"].make_context("diff", ["study.yaml", "--dry"])


def completed(words: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the shell is offered for the last of the words."""
    for name, value in {
        "_INDEXSCOPE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }.items():
        monkeypatch.setenv(name, value)
    return run_command().out


def test_the_shell_completes_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("indexscope ver", monkeypatch) == ["verify", "version"]
    assert completed("indexscope study --dr", monkeypatch) == ["--dry-run"]
    assert completed("indexscope study stud", monkeypatch) in ([], [""])  # bash goes on to the names of files


def test_the_help_tells_of_completion_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell is named instead
    told = [line for line in run_command("--help").out if "completion" in line]
    assert told == ["  Tab completion: indexscope --install-completion (or --show-completion)."]
    assert run_command("--show-completion", "bash").out[-1].startswith("complete -o default -F _indexscope_completion")


HEAVY = "{'torch', 'transformers', 'tokenizers', 'prefect', 'sklearn', 'matplotlib', 'numba'}"


def loaded_by(commands: list[list[str]], heavy: str) -> str:
    """What commands import of what is heavy, one after the other in one fresh process."""
    program = (
        "import sys; from indexscope.flows.start import main\n"
        f"for command in {commands}:\n"
        "    sys.argv[1:] = command\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert ended.code in (0, 2), (command, ended.code)\n"
        f"    heavy = {heavy} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return ended.stderr if ended.returncode else ""


def test_help_loads_nothing_heavy() -> None:
    commands = [["--help"], *([command.name, "--help"] for command in found())]
    assert not loaded_by(commands, HEAVY.replace("{", "{'polars', 'numpy', 'pyarrow', 'httpx', "))


def test_what_is_not_there_is_told_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    studies = [
        ["study", missing],
        ["fit", missing],
        ["study", "--dry-run", missing],
        ["serve", missing],
        ["diff", missing],
    ]
    stores = [[command, missing] for command in ("ls", "verify", "gc", "history", "import")]
    assert not loaded_by([*studies, *stores], HEAVY)


def test_a_run_loads_what_computes_when_something_is_to_be_computed() -> None:
    program = (
        "import sys, indexscope.flows.study.flows\n"
        "import indexscope.analysis.plots.address, indexscope.analysis.report.over_time  # as a report is published\n"
        "heavy = {'sklearn', 'scipy', 'matplotlib', 'numba', 'transformers.modeling_utils'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
