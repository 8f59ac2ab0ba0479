"""One request of a connection and its answer: uvicorn's class, with what uvicorn's lacks."""

from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.errors import ServiceError


class Flow(FlowControl):
    """Does not resume reading while requests wait: the one that runs has its whole body."""

    def __init__(self, transport: Any, waiting: Any) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Cycle(RequestResponseCycle):
    """Can be broken off while its body arrives."""

    _fault: ServiceError | None = None

    def break_off(self, error: ServiceError) -> None:
        """Makes `receive` raise the error. The application then answers with it."""
        self.keep_alive = False
        self._fault = error
        self.scope["state"]["refusal"] = error  # for a request that has not begun
        self.message_event.set()

    async def receive(self) -> Any:
        """Raises the error that the request was broken off with."""
        message = await super().receive()
        if self._fault is not None:
            raise self._fault
        return message

    async def send(self, message: Any) -> None:
        """Closes the connection after an answer to a client that waits for `100 Continue`.

        It may send the body or the next request, and nobody can tell which (RFC 9110, 10.1.1).
        """
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)
