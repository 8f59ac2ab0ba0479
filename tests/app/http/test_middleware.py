"""What happens to an error that comes after the answer has begun."""

import logging
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.errors import BadRequest, ServiceError
from app.http.middleware import ErrorMiddleware
from app.main import create_app
from app.settings import Settings
from tests.fakes.service import ZYGOTE

pytestmark = pytest.mark.anyio


async def receive() -> Message:
    return {"type": "http.disconnect"}


def render(scope: Scope, error: ServiceError) -> Response:
    return Response(error.detail, error.status)


@pytest.mark.parametrize("error", [BadRequest("late"), RuntimeError("late")])
@pytest.mark.parametrize("has_begun", [True, False])
async def test_an_answer_is_begun_once(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, error: Exception, has_begun: bool
) -> None:
    """An error before the answer becomes the answer. One behind its beginning cannot be sent any more."""
    caplog.set_level(logging.CRITICAL)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    service = create_app(Settings.model_validate({"checkpoint": checkpoint}), ZYGOTE).state.service
    scope = {"type": "http", "method": "GET", "path": "/", "state": {"request_id": "a"}}
    await ErrorMiddleware(app, service, render)(scope, receive, send)
    starts = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert starts == [200 if has_begun else (400 if isinstance(error, BadRequest) else 500)]
