"""Every setting of the service: its name, unit, default and range.

Owns reading them from `VGG_` variables and the command line.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.addresses import check_origin, check_path
from app.cpus import count_cpus
from app.flags import read_flags
from app.keys import read_keys, split_keys
from app.platforms import read_vertex_variable, split_serve

PREFIX = "VGG_"
DEFAULTS = {  # as --help shows them
    "decode_threads": "the CPUs that the process may use, at most 8",
    "max_images": "64, or queue_size if that is smaller",
    "max_batch": "measured",
    "port": "8000, or AIP_HTTP_PORT",
    "vertex_health_route": "AIP_HEALTH_ROUTE",
    "vertex_predict_route": "AIP_PREDICT_ROUTE",
    "max_body_memory": "16 x max_body_bytes",
}
KEY_VARIABLES = (PREFIX + "API_KEYS", PREFIX + "API_KEYS_FILE")
LIMIT: dict[str, JsonValue] = {"is_limit": True}  # marks the settings that GET /model shows as limits


def _default_decode_threads() -> int:
    return min(8, count_cpus())


def _default_port() -> Any:
    return read_vertex_variable("HTTP_PORT") or 8000


def _default_max_body_memory(settings: dict[str, Any]) -> int:
    max_body_bytes: int = settings["max_body_bytes"]
    return 16 * max_body_bytes


def _default_max_images(settings: dict[str, Any]) -> int:
    queue_size: int = settings["queue_size"]
    return min(64, queue_size)


class Settings(BaseSettings):
    """Serve a checkpoint on HTTP. Each option is also a variable: --max-images is VGG_MAX_IMAGES."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    checkpoint: Path = Field(Path("checkpoints/digits.safetensors"), description="the .safetensors file to serve")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(
        default_factory=_default_port,
        ge=0,
        le=65535,
        description="TCP port; 0 takes a free one and prints it",
    )
    root_path: Annotated[str, AfterValidator(check_path)] = Field(
        "", description="path under which a proxy shows this server, as in /models/digits"
    )
    cors_origins: Annotated[tuple[Annotated[str, AfterValidator(check_origin)], ...], NoDecode] = Field(
        (), description="origins whose pages may call, separated by commas, as in https://a.example; * for all"
    )
    vertex_health_route: Annotated[str, AfterValidator(check_path)] | None = Field(
        default_factory=lambda: read_vertex_variable("HEALTH_ROUTE"),
        description="one more path that tells whether it is ready",
    )
    vertex_predict_route: Annotated[str, AfterValidator(check_path)] | None = Field(
        default_factory=lambda: read_vertex_variable("PREDICT_ROUTE"),
        description="one more path that takes Vertex AI's JSON",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N; auto takes the GPU where there is one")
    devices: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="one model replica for each name, separated by commas, as in cuda:0,cuda:1; overrides device"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="precision of the model; auto takes the fastest that keeps the golden sample's answer"
    )
    max_batch: int | None = Field(None, ge=1, description="images of a batch at most; measured at start if not given")
    queue_size: int = Field(
        256, ge=1, json_schema_extra=LIMIT, description="images that are being decoded or wait for the model, at most"
    )
    decode_threads: int = Field(
        default_factory=_default_decode_threads,
        ge=1,
        json_schema_extra=LIMIT,
        description="images that are decoded at once, each in a process",
    )
    max_body_bytes: int = Field(
        32 * 2**20, ge=1, json_schema_extra=LIMIT, description="size of a request's body at most, in bytes"
    )
    max_body_memory: int = Field(
        default_factory=_default_max_body_memory,
        ge=1,
        json_schema_extra=LIMIT,
        description="bytes of all bodies in memory at most, of which one client's address may have half",
    )
    max_images: int = Field(
        default_factory=_default_max_images,
        ge=1,
        json_schema_extra=LIMIT,
        description="images of one request at most, and not above queue_size",
    )
    max_image_pixels: int = Field(
        64_000_000,
        ge=1,
        json_schema_extra=LIMIT,
        description="width x height of an image at most, by its header",
    )
    request_timeout: float = Field(
        30.0, gt=0, allow_inf_nan=False, json_schema_extra=LIMIT, description="seconds that a request may take"
    )
    drain_delay: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        json_schema_extra=LIMIT,
        description="seconds after SIGTERM in which requests are accepted",
    )
    shutdown_timeout: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        json_schema_extra=LIMIT,
        description="seconds after that for the requests in flight",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="keys separated by commas, of which callers must send one; without keys all may call. "
        "Other users of the machine can see a flag: use the variable or a file",
    )
    api_keys_file: Path | None = Field(None, description="file with more keys, one a line; read again at a reload")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="TCP port for /metrics; without it /metrics is on the main port"
    )
    log_format: Literal["text", "json"] = Field("text", description="format of the log, one line for each request")

    @field_validator("devices", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return split_keys(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_images > self.queue_size:
            raise ValueError(f"max_images is {self.max_images}, but must not be above queue_size, {self.queue_size}")
        if self.max_body_memory < self.max_body_bytes:
            raise ValueError(
                f"max_body_memory is {self.max_body_memory}, but must be at least max_body_bytes, {self.max_body_bytes}"
            )
        return self

    def keys(self) -> tuple[str, ...]:
        """All API keys. Reads those of the file. Raises ValueError for a file that cannot be read or has no key."""
        keys = tuple(key.get_secret_value() for key in self.api_keys)
        if self.api_keys_file is None:
            return keys
        try:
            return (*keys, *read_keys(self.api_keys_file))
        except ValueError as error:
            raise ValueError(f"api_keys_file is {self.api_keys_file}, but it {error}") from error

    def client_body_memory(self) -> int:
        """Bytes of all bodies of one client at most: half of `max_body_memory`, or one body if that is more."""
        return max(self.max_body_memory // 2, self.max_body_bytes)

    def limits(self) -> dict[str, float]:
        """Every limit by its setting's name, as `GET /model` shows it."""
        fields = type(self).model_fields
        return {name: getattr(self, name) for name, field in fields.items() if field.json_schema_extra is LIMIT}


def read_settings(arguments: list[str]) -> Settings:
    """The settings. The command line has precedence over the environment, and the environment over the defaults.

    Raises ValueError with one line for each fault, which names the setting and shows no key. Prints the help and exits
    for `--help`.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise ValueError(f"unknown variable {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    for name, value in os.environ.items():
        if name.upper() in KEY_VARIABLES and not value.strip():
            raise ValueError(f"{name} is set, but holds nothing; unset it, or without keys all callers are let in")
    others, serve_defaults = split_serve(arguments)
    given = {name.upper() for name, value in os.environ.items() if value}
    values: dict[str, Any] = {k: value for k, value in serve_defaults.items() if PREFIX + k.upper() not in given}
    values |= read_flags(others, Settings, DEFAULTS)
    try:
        return Settings(**values)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if fault["type"] != "default_factory_not_called"]
        raise ValueError("\n".join(map(_one_line, faults))) from None  # the cause holds the keys


def shows_keys(arguments: list[str]) -> bool:
    """Whether the command line, which other users of the machine can see, holds API keys."""
    others, _ = split_serve(arguments)
    return "api_keys" in read_flags(others, Settings, DEFAULTS)


def _one_line(fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    return f"{name} {message}" if name == "api_keys" else f"{name} is {fault['input']!r}: {message}"
