"""A flow run from the command line: bad input is told first, and Prefect starts while it is being looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indexscope.flows.load import load_study
from indexscope.flows.preflight import check_folders, check_prefect, check_store
from indexscope.flows.refresh import chosen

if TYPE_CHECKING:
    from indexscope.flows.outcome import Outcome


def run_flow(name: str, file: str | None, overrides: list[str], refresh: list[str] | None = None) -> Outcome:
    """Run one of the flows.

    Args:
        name: A key of `indexscope.flows.study.FLOWS`.
        file: The study file; None is the built-in study.
        overrides: ``key.key=value`` settings that go before the file's.
        refresh: Steps to compute even if the store has them.

    Raises:
        IndexscopeError: The study or something that it names cannot be used, or Prefect cannot.
        Exception: Whatever the flow raised that is no outcome: a defect of this program.
    """
    study = load_study(file, overrides)
    steps = chosen(refresh or [], name)
    check_folders(study, name)
    check_prefect()
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as ready:
        from indexscope.flows.outcome import Outcome
        from indexscope.flows.plan import prepare_plan
        from indexscope.flows.study import FLOWS

        check_store(prepare_plan(study, steps), name)
        ready()
        state: Any = FLOWS[name](file=file, overrides=overrides, refresh=refresh, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Outcome):
        return outcome
    raise outcome if isinstance(outcome, BaseException) else RuntimeError(f"the flow ended {state.name}")
