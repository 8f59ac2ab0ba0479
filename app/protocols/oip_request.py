"""An inference request of the Open Inference Protocol, with Triton's extensions for binary data and classification.

Owns its JSON object, where the binary data begin, and the check of both against the model's metadata.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import BadRequest, TooManyImages
from app.http.inference import Inference
from app.protocols.bodies import JsonLimits, parse_json, read_body, run_by_size
from app.protocols.errors import quote
from app.protocols.oip_models import ModelInfo, TensorInfo
from app.protocols.tensors import Floats, parse_floats, parse_strings, read_floats, split_strings

HEADER_LENGTH = "Inference-Header-Content-Length"
LENGTH = re.compile(r"[0-9]{1,15}")
OTHER_VALUES = 256  # of a JSON object besides its tensor's data
MOST_ITEMS = 16  # of a list: pydantic has an error for each item that is not valid
MICROSECONDS = 1e-6
M = TypeVar("M", bound=BaseModel)


class _Object(BaseModel):
    """Of JSON, where a number is no string. Fields that are not known are ignored: extensions have more."""

    model_config = ConfigDict(strict=True)


class InputParameters(_Object):
    """Of an input. Shared memory is not supported, and not ignored: the data would be missing."""

    binary_data_size: int | None = Field(default=None, ge=0)
    shared_memory_region: str | None = None


class InputTensor(_Object):
    """$request_input."""

    name: str
    shape: list[int] = Field(max_length=MOST_ITEMS)
    datatype: str
    parameters: InputParameters | None = None
    data: Any = None


class OutputParameters(_Object):
    """Of a requested output."""

    binary_data: bool | None = None
    classification: int | None = Field(default=None, ge=0)
    shared_memory_region: str | None = None


class OutputTensor(_Object):
    """$request_output."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(_Object):
    """Of a request. `timeout` is in microseconds; 0 means none."""

    binary_data_output: bool | None = None
    timeout: int | None = Field(default=None, ge=0)


class InferenceRequest(_Object):
    """$inference_request."""

    id: str | None = None
    parameters: RequestParameters | None = None
    inputs: list[InputTensor] = Field(max_length=MOST_ITEMS)
    outputs: list[OutputTensor] | None = Field(default=None, max_length=MOST_ITEMS)


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output, in which form it is wanted, and for a classification of how many classes."""

    info: TensorInfo
    is_binary: bool
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """What a request asks for: image files or (N, C, S, S) normalised pixels in, outputs out."""

    id: str | None
    timeout_seconds: float | None
    images: list[bytes] | Floats
    outputs: list[RequestedOutput]


async def read_request(inference: Inference, model: ModelInfo) -> ParsedRequest:
    """Reads and checks the body. Raises BadRequest, TooManyImages, and what `read_body` and `parse_json` raise."""
    body, max_images = await read_body(inference), inference.settings.max_images
    text = inference.request.headers.get(HEADER_LENGTH)
    if text is not None and not LENGTH.fullmatch(text):
        raise BadRequest(f"{HEADER_LENGTH} is {quote(text)}, but must be a number of bytes.")
    length = len(body) if text is None else int(text)
    if length > len(body):
        raise BadRequest(f"{HEADER_LENGTH} is {length}, but the body has {len(body)} bytes.")
    if not length:
        outputs = [RequestedOutput(model.outputs[0], is_binary=True)]
        return ParsedRequest(None, None, _read_raw(body, model.input), outputs)
    document = await parse_json(inference, body[:length], _limit_json(model, max_images))
    request = _validate(InferenceRequest, document)
    timeout = request.parameters.timeout if request.parameters else None
    outputs = _list_outputs(request, model)
    images = await run_by_size(length, _read_input, request, memoryview(body)[length:], model.input, max_images)
    return ParsedRequest(request.id, MICROSECONDS * timeout if timeout else None, images, outputs)


def _limit_json(model: ModelInfo, max_images: int) -> JsonLimits:
    """Room for the normalised pixels of all images that are allowed, as nested lists of numbers.

    It is the same for both models: who sends pixels to the one that takes images gets a better error later.
    """
    numbers = max_images * math.prod(model.pixels)
    lists = max_images * sum(math.prod(model.pixels[:end]) for end in range(len(model.pixels)))
    return JsonLimits(max(numbers + lists, 4 * max_images) + OTHER_VALUES, lists + OTHER_VALUES, OTHER_VALUES)


def _validate(kind: type[M], document: Any) -> M:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"])) or "body"
        raise BadRequest(f"The request's {where} is not valid: {fault['msg'].lower()}.") from error


def _read_raw(body: bytes, tensor: TensorInfo) -> list[bytes] | Floats:
    """A body without a JSON object is the binary data of one image, without a length."""
    if tensor.datatype == "FP32":
        return read_floats(body, (1, *tensor.shape[1:]), tensor.name)
    if not body:
        raise BadRequest("There is no image in the request.")
    return [body]


def _read_input(
    request: InferenceRequest, binary: memoryview, tensor: TensorInfo, max_images: int
) -> list[bytes] | Floats:
    given = _find_input(request, tensor)
    count = _check_shape(given, tensor, max_images)
    size = given.parameters.binary_data_size if given.parameters else None
    if (size is None) == (given.data is None):
        raise BadRequest(f"The input {tensor.name} must have either data or the parameter binary_data_size.")
    if len(binary) != (size or 0):
        expected = f"the binary_data_size of its inputs is {size or 0}"
        raise BadRequest(f"The body has {len(binary)} bytes behind its JSON object, but {expected}.")
    if tensor.datatype == "FP32":
        if size is None:
            return parse_floats(given.data, given.shape, tensor.name)
        return read_floats(binary, given.shape, tensor.name)
    if size is None:
        return parse_strings(given.data, count, tensor.name)
    images = split_strings(binary, count, tensor.name)
    if b"" in images:
        raise BadRequest(f"Element {images.index(b'')} of {tensor.name} has no bytes.")
    return images


def _find_input(request: InferenceRequest, tensor: TensorInfo) -> InputTensor:
    stranger = next((given.name for given in request.inputs if given.name != tensor.name), None)
    if stranger is not None or len(request.inputs) != 1:
        found = "no input" if not request.inputs else f"{len(request.inputs)} inputs"
        fault = f"the input {quote(stranger)}" if stranger is not None else found
        raise BadRequest(f"The request has {fault}, but the model has the one input {tensor.name}.")
    [given] = request.inputs
    if given.datatype != tensor.datatype:
        raise BadRequest(f"The input {tensor.name} is {quote(given.datatype)}, but must be {tensor.datatype}.")
    if given.parameters and given.parameters.shared_memory_region is not None:
        raise BadRequest("Shared memory is not supported.")
    return given


def _check_shape(given: InputTensor, tensor: TensorInfo, max_images: int) -> int:
    """The number of images. Raises BadRequest for another shape, and TooManyImages."""
    if len(given.shape) != len(tensor.shape) or tuple(given.shape[1:]) != tensor.shape[1:] or given.shape[0] < 1:
        expected = f"{list(tensor.shape)} with at least one image"
        raise BadRequest(f"The shape of {tensor.name} is {quote(given.shape)}, but must be {expected}.")
    if given.shape[0] > max_images:
        raise TooManyImages(f"The request has {given.shape[0]} images, more than the allowed {max_images}.")
    return given.shape[0]


def _list_outputs(request: InferenceRequest, model: ModelInfo) -> list[RequestedOutput]:
    all_binary = bool(request.parameters and request.parameters.binary_data_output)
    if not request.outputs:
        return [RequestedOutput(model.outputs[0], all_binary)]
    infos = {info.name: info for info in model.outputs}
    outputs: dict[str, RequestedOutput] = {}
    for wanted in request.outputs:
        info, parameters = infos.get(wanted.name), wanted.parameters or OutputParameters()
        if info is None:
            raise BadRequest(f"There is no output {quote(wanted.name)}; there are {', '.join(infos)}.")
        if wanted.name in outputs:
            raise BadRequest(f"The output {wanted.name} is requested more than once.")
        if parameters.shared_memory_region is not None:
            raise BadRequest("Shared memory is not supported.")
        if parameters.classification and info.datatype != "FP32":
            raise BadRequest(f"The output {wanted.name} has no values to classify by.")
        is_binary = all_binary if parameters.binary_data is None else parameters.binary_data
        outputs[wanted.name] = RequestedOutput(info, is_binary, parameters.classification or None)
    return list(outputs.values())
