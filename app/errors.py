"""The service's one tree of errors.

Owns statuses, codes and headers. It imports nothing but the standard library, so that a process that decodes images can
raise them and still starts fast.
"""

from typing import Any, ClassVar, Self


class ServiceError(Exception):
    """An error that becomes an answer. `detail` is one sentence for a person."""

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(self, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}

    def without_traceback(self) -> Self:
        """The error without its traceback, which would keep an image's bytes in memory, in a cycle with its answer."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def to_item(self) -> dict[str, Any]:
        """The `error` field of a prediction, where only some images of a request failed."""
        return {"code": self.code, "detail": self.detail, "status": self.status}


class BadRequest(ServiceError):
    """A body that cannot be read, or has no image in it."""

    status, code = 400, "bad_request"


class Unauthorized(ServiceError):
    """No API key, or one that is not known."""

    status, code = 401, "unauthorized"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class NotFound(ServiceError):
    """No such route."""

    status, code = 404, "not_found"


class MethodNotAllowed(ServiceError):
    """A route that has other methods."""

    status, code = 405, "method_not_allowed"


class BodyTooLarge(ServiceError):
    """More bytes than `max_body_bytes`."""

    status, code = 413, "body_too_large"


class TooManyImages(ServiceError):
    """More images than `max_images`."""

    status, code = 413, "too_many_images"


class ImageTooLarge(ServiceError):
    """More pixels, by the image's header, than `max_image_pixels`."""

    status, code = 413, "image_too_large"


class UnsupportedFormat(ServiceError):
    """Bytes that are not in one of the allowed image formats."""

    status, code = 415, "unsupported_format"


class UnsupportedEncoding(ServiceError):
    """A Content-Encoding other than identity."""

    status, code = 415, "unsupported_encoding"


class UndecodableImage(ServiceError):
    """An image of an allowed format that is truncated or corrupt, of a variant that is not read, or absurdly costly."""

    status, code = 422, "undecodable_image"


class InvalidParameter(ServiceError):
    """A query parameter or header out of its range."""

    status, code = 422, "invalid_parameter"


class InvalidCheckpoint(ServiceError):
    """A checkpoint that cannot take over; the one before it serves on."""

    status, code = 422, "invalid_checkpoint"


class HeadersTooLarge(ServiceError):
    """A request's head that is too long, or takes too long to arrive."""

    status, code = 431, "headers_too_large"


class QueueFull(ServiceError):
    """No room in the queue, or in memory for one more body. `retry_after` is in whole seconds."""

    status, code = 429, "queue_full"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class Internal(ServiceError):
    """A fault of ours. What happened goes to the log, never to the caller."""

    status, code = 500, "internal"

    def __init__(self) -> None:
        super().__init__("The server failed to answer this request; the fault is in its log under the request id.")


class ReloadFailed(ServiceError):
    """A reload that failed for a reason that is not the checkpoint's; the model before it serves on."""

    status, code = 500, "reload_failed"


class NotReady(ServiceError):
    """No model can answer at the moment."""

    status, code = 503, "not_ready"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class Overloaded(ServiceError):
    """Memory that was too short for this image, or that would be. `retry_after` is in whole seconds."""

    status, code = 503, "overloaded"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class Draining(ServiceError):
    """The server has stopped accepting. Clients that are still connected must use another server."""

    status, code = 503, "draining"

    def __init__(self) -> None:
        super().__init__("The server is shutting down.", {"Retry-After": "1", "Connection": "close"})


class DeadlineExceeded(ServiceError):
    """The request's time is up."""

    status, code = 504, "deadline_exceeded"
