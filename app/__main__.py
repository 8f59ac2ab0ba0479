"""The command `python -m app`, and `python -m app serve` as SageMaker starts it.

Owns the exit status: a fault that the operator can mend becomes one line on standard error.
"""

import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NoReturn

from app import runtime

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.settings import Settings
    from app.stderr import BoundedStream

log = logging.getLogger("vggserve")

INTERRUPTED = 128 + signal.SIGINT  # the status that a shell shows for a process that Ctrl-C has ended

# If the server closes an idle connection while a request arrives, that request is lost. If the load balancer closes
# it, the balancer can send the request on another connection. The server therefore waits longer than the usual
# balancers, of which the longest waits for 600 seconds (Google Cloud's; its documentation asks for 620 seconds).
KEEP_ALIVE_SECONDS = 620


def main(arguments: list[str] | None = None) -> int:
    """Serves until a signal or a fault.

    Returns 0 after a drain, 1 if no model could be loaded, if a port is taken, and if requests in flight got no answer
    within `shutdown_timeout`, 2 for settings that are not valid.
    """
    runtime.limit_openmp_spinning()
    # Deferred: these imports take tenths of a second, and `run` sets the handlers of signals before them. As process 1
    # of a container, a process without a handler ignores the signal.
    from app.decoding.zygote import Zygote
    from app.logs import logging_to_stderr
    from app.main import create_app
    from app.settings import read_settings, shows_keys

    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        settings = read_settings(arguments)
        app = create_app(settings, Zygote())
    except ValueError as error:
        return _print_error(error, 2)
    with logging_to_stderr(settings.log_format, app.state.service.metrics.log_lines_dropped.inc) as stderr:
        if shows_keys(arguments):
            log.warning("--api-keys shows the keys to other users of this machine; use VGG_API_KEYS or --api-keys-file")
        return _serve(app, settings, stderr)


def _serve(app: "FastAPI", settings: "Settings", stderr: "BoundedStream") -> int:
    import uvicorn

    from app.backstop import Backstop
    from app.http.protocol import BoundedProtocol
    from app.listening import open_listeners
    from app.logs import describe_error
    from app.server import Server
    from app.service import Service
    from app.stderr import DRAIN_SECONDS

    def end() -> NoReturn:
        stderr.drain(DRAIN_SECONDS)
        os._exit(1)

    runtime.raise_open_file_limit()
    config = uvicorn.Config(
        app,
        settings.host,
        settings.port,
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,  # seconds for connections that are left after shutdown_timeout
    )
    service: Service = app.state.service
    with ExitStack() as stack:
        place = f"host is {settings.host} and port is {settings.port}"
        try:
            listeners = [stack.enter_context(listener) for listener in open_listeners(settings.host, settings.port)]
            place = f"host is {settings.host} and metrics_port is {settings.metrics_port}"
            stack.enter_context(service.metrics.served_on(settings.host, settings.metrics_port))
        except OSError as error:
            fault = str(error.strerror or error).partition(" (")[0].lower()  # the rest repeats the address
            return _print_error(f"{place}, which cannot be listened on: {fault}", 1)
        backstop = Backstop(end)
        stack.callback(backstop.disarm)
        server = Server(config, service, backstop)
        server.run(listeners)
    if service.failure is not None:
        return _print_error(describe_error(service.failure), 1)
    return 1 if server.has_failed else 0


def run() -> None:
    """Runs `main` and ends the process at once, without waiting for threads that still load or decode."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server sets its own, which is before it is ready
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    runtime.defer_hangup()
    runtime.open_standard_streams()
    runtime.pause_garbage_collection()  # the server resumes it when the model is loaded
    try:
        status = main()
    except SystemExit as end:  # raised by --help
        status = end.code if isinstance(end.code, int) else 1
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)


def _print_error(error: object, status: int) -> int:
    with suppress(OSError):  # nobody reads it
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return status


if __name__ == "__main__":
    run()
