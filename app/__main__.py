"""The command `python -m app`, and `python -m app serve` as SageMaker starts it.

Owns the exit status: a fault that the operator can mend becomes one line on standard error.
"""

import os
import signal
import sys

from app import runtime

# If the server closes an idle connection while a request arrives, that request is lost. If the load balancer closes
# it, the balancer can send the request on another connection. The server therefore waits longer than the usual
# balancers, of which the longest waits for 600 seconds (Google Cloud's; its documentation asks for 620 seconds).
KEEP_ALIVE_SECONDS = 620


def main(arguments: list[str] | None = None) -> int:
    """Serves until a signal or a fault.

    Returns 0 after a drain, 1 if no model could be loaded, 2 for settings that are not valid.
    """
    runtime.limit_openmp_spinning()
    # Deferred: these imports take tenths of a second, and `run` sets the handler for SIGTERM before them. As process 1
    # of a container, a process without a handler ignores the signal.
    import uvicorn

    from app.http.protocol import BoundedProtocol
    from app.logs import configure_logging
    from app.main import create_app
    from app.server import Server
    from app.service import Service
    from app.settings import apply_serve, read_settings

    try:
        settings = read_settings(apply_serve(sys.argv[1:] if arguments is None else arguments))
        app = create_app(settings)
    except ValueError as error:
        return _print_error(error, 2)
    configure_logging(settings.log_format)
    runtime.raise_open_file_limit()
    config = uvicorn.Config(
        app,
        "" if settings.host == "::" else settings.host,  # asyncio's "::" is IPv6 alone, its "" is both
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
    try:
        with service.metrics.served_on(settings.host, settings.metrics_port):
            Server(config, service).run()
    except OSError as error:
        return _print_error(f"metrics_port is {settings.metrics_port}: {error}", 1)
    return 0 if service.failure is None else _print_error(service.failure, 1)


def run() -> None:
    """Runs `main` and ends the process at once, without waiting for threads that still load or decode."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server sets its own; it accepts nothing before
    runtime.pause_garbage_collection()  # the server resumes it when the model is loaded
    try:
        status = main()
    except SystemExit as end:  # raised by argparse and by uvicorn
        status = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _print_error(error: object, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return status


if __name__ == "__main__":
    run()
