"""An S3 endpoint on this machine (moto's server) that can be told to fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import fsspec
import pytest
from moto import server as moto_server


class Faults:
    """A layer over the endpoint that fails some requests before they reach it, some of them late."""

    def __init__(self, app: Callable) -> None:
        self._app = app
        self.left: dict[str, int] = {}
        self.status, self.failed, self.seconds = "503 Slow Down", 0, 0.0

    def __call__(self, environ: dict, start_response: Callable) -> object:
        if self.left.get(environ["REQUEST_METHOD"], 0) > 0:
            self.left[environ["REQUEST_METHOD"]] -= 1
            self.failed += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            time.sleep(self.seconds)
            start_response(self.status, [("Content-Type", "application/xml")])
            if environ["REQUEST_METHOD"] == "HEAD":
                return []  # an answer to HEAD has no body
            return [b"<Error><Code>" + self.status.split()[1].encode() + b"</Code></Error>"]
        return self._app(environ, start_response)


def credentials(url: str) -> dict[str, str]:
    """The environment of whoever uses the endpoint."""
    return {
        "AWS_ACCESS_KEY_ID": "planted-id",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[str, Faults]]:
    from threading import Thread

    from werkzeug.serving import make_server

    faults = Faults(moto_server.DomainDispatcherApplication(moto_server.create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", faults
    server.shutdown()


@pytest.fixture
def bucket(endpoint: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in credentials(endpoint[0]).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    endpoint[1].left.clear()
    endpoint[1].seconds = 0.0
    name = f"bucket-{abs(hash(request.node.name)):x}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}/team"
