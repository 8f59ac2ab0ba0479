"""An application that reads a body and answers, behind one of several HTTP/1.1 implementations.

`python -m benchmarks.lib.front_app bounded|httptools|h11` serves it by uvicorn on a free port. Hypercorn, in an
environment of its own, imports `app`; so this module imports nothing of the project at its top.
"""

import sys
from typing import Any

ANSWER = b'{"status":"ok"}'


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers every request with 200, and what the server itself refuses with its status."""
    if scope["type"] != "http":
        return
    refusal = scope.get("state", {}).get("refusal")
    more = refusal is None
    while more:
        try:
            message = await receive()
        except Exception as error:
            refusal, more = error, False
        else:
            if message["type"] == "http.disconnect":
                return
            more = message["more_body"]
    status = refusal.status if refusal else 200
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    """Serves until it is terminated."""
    import uvicorn

    from app.http.protocol import BoundedProtocol

    kind = sys.argv[1]
    http: Any = BoundedProtocol if kind == "bounded" else kind
    uvicorn.run(app, port=0, http=http, loop="uvloop", ws="none", lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
