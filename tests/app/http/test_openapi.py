"""The OpenAPI document and the server agree, over requests that a fuzzer derives from the document."""

import socket
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.main import create_app
from app.settings import Settings
from tests.fakes.service import ZYGOTE

POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
KEY = {"X-API-Key": "secret"}


class ThreadServer(uvicorn.Server):
    """Runs in a thread and tells when its model answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self.config.app.state.starting  # type: ignore[union-attr]
        self.ready.set()


@pytest.fixture(scope="module")
def document(checkpoint: Path) -> Iterator[Any]:
    """The document of a running server."""
    app = create_app(
        Settings.model_validate({"checkpoint": checkpoint, "dtype": "float32", "api_keys": "secret"}), ZYGOTE
    )
    server = ThreadServer(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    server.ready.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    server.should_exit = True
    thread.join()


def test_every_answer_is_one_that_the_document_promises(document: Any) -> None:
    """Status, content type and body of every answer are documented, and no request makes the server fail.

    One check is left out: that what fits the document is accepted. Whether bytes are an image, and how
    many labels there are, a document cannot say.
    """
    operations = [found.ok() for found in document.get_all_operations()]
    bad = [operation for operation in operations if operation.path == "/predict"]  # the others take nothing
    for operation, mode in [*product(operations, [POSITIVE]), *product(bad, [NEGATIVE])]:

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(headers=KEY, excluded_checks=[positive_data_acceptance])

        ask()
    assert {operation.path for operation in operations} >= {"/predict", "/model", "/health/ready", "/admin/reload"}
