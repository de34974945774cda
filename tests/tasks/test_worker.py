from __future__ import annotations

import ssl

import pytest
from prefect.client import orchestration

from indexscope.tasks.common.step import share_certificates


def test_a_worker_reads_the_root_certificates_once_for_all_of_prefects_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    honest = ssl.create_default_context

    def counted(*args: object, **more: object) -> ssl.SSLContext:
        read.append(more)
        return honest(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(orchestration, "ssl", ssl)  # is put back afterwards
    monkeypatch.setattr(ssl, "create_default_context", counted)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    for _ in range(2):
        orchestration.SyncPrefectClient("http://127.0.0.1:1/api")
    apart = len(read)
    share_certificates()
    for _ in range(3):
        orchestration.SyncPrefectClient("http://127.0.0.1:1/api")
        orchestration.PrefectClient("http://127.0.0.1:1/api")
    assert apart >= 2 and len(read) == apart + 1
