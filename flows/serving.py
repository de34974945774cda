"""A study as a Prefect deployment."""

from __future__ import annotations

import os
from pathlib import Path

from indexscope import IndexscopeError
from indexscope.flows.local_server import SERVED, scheduling_server
from indexscope.flows.study.load import load_study
from indexscope.flows.study.preflight import check_folders, check_run


def serve_study(file: Path, cron: str | None, overrides: list[str], name: str | None) -> None:
    """Serve a study until interrupted.

    The schedule stays on when this process stops: it may be stopped only to be started anew, by an upgrade or a reboot.

    Raises:
        IndexscopeError: The study file or the schedule is wrong.
    """
    study = load_study(file, overrides)
    check_folders(study, "study")
    check_run(study)
    _check(cron)
    from prefect.types.entrypoint import EntrypointType

    from indexscope.flows.study.flows import study_flow

    os.environ[SERVED] = "1"  # its runs are processes of their own
    with scheduling_server() as url:
        print(f"Prefect: {url.removesuffix('/api')}", flush=True)
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
