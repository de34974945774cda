"""A study as a Prefect deployment."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from indexscope import IndexscopeError
from indexscope.flows.local_server import SERVED, scheduling_server
from indexscope.flows.study.load import load_study
from indexscope.flows.study.preflight import check_folders, check_run


def serve_study(
    file: Path, cron: str | None, overrides: list[str], name: str | None, watched: Path | None = None
) -> None:
    """Serve a study until interrupted.

    The schedule stays on when this process stops: it may be stopped only to be started anew, by an upgrade or a reboot.

    Args:
        file: The study file.
        cron: The schedule, if there is one.
        overrides: Settings that go before the file's.
        name: Of the deployment; by default the file's.
        watched: Folder of the members of series: the study runs when another is complete.

    Raises:
        IndexscopeError: The study file or the schedule is wrong, or none of its series lies below the folder.
    """
    if watched is not None:
        from indexscope.flows.watching import check_watched

        check_watched(file, overrides, watched)
    study = load_study(file, overrides, members=watched is None)  # a watch may begin before there is any
    check_folders(study, "study")
    check_run(study)
    _check(cron)
    from prefect.types.entrypoint import EntrypointType

    from indexscope.flows.study.flows import study_flow

    os.environ[SERVED] = "1"  # its runs are processes of their own
    with scheduling_server() as url, ExitStack() as stack:
        print(f"Prefect: {url.removesuffix('/api')}", flush=True)
        if watched is not None:
            from indexscope.flows.watching import watching

            stack.enter_context(watching(file, overrides, f"{study_flow.name}/{name or file.stem}"))
        study_flow.serve(
            name=name or file.stem,
            cron=cron,
            parameters={"file": str(file.resolve()), "overrides": overrides},
            description=f"Indexscope study {study.name}",
            tags=["indexscope"],
            pause_on_shutdown=False,
            # By its path the file would be loaded a second time, with its folder first in the search for modules.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def _check(cron: str | None) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    if cron is None:
        return
    try:
        CronSchedule(cron=cron)
    except ValueError:
        remedy = 'give minute, hour, day, month and weekday, e.g. "0 3 * * *"'
        raise IndexscopeError("--cron", f"{cron!r} is no schedule", remedy) from None
