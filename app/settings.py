"""Every setting of the service: its name, unit, default and range.

Owns reading them from `VGG_` variables and the command line.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, NoDecode, SettingsConfigDict, SettingsError

PREFIX = "VGG_"
METAVARS: dict[object, str] = {Path: "FILE", float: "SECONDS", int: "NUMBER"}
DEFAULTS = {  # as --help shows them
    "max_images": "64, or queue_size if that is smaller",
    "max_batch": "measured",
    "port": "8000, or AIP_HTTP_PORT",
    "vertex_health_route": "AIP_HEALTH_ROUTE",
    "vertex_predict_route": "AIP_PREDICT_ROUTE",
}
VERTEX_PREFIX = "AIP_"  # of the variables that Vertex AI sets in its containers
SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT"
SERVE_DEFAULTS = {"host": "0.0.0.0", "port": "8080", "drain_delay": "5", "shutdown_timeout": "20"}  # noqa: S104
SEGMENT = r"/[A-Za-z0-9._~:@!$&'()*+,;=-]+"  # of a path, without escapes (RFC 3986, section 3.3)
PATH = re.compile(rf"({SEGMENT})+")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@,]+")  # as browsers send it (RFC 6454, section 6.2)
LIMITS = (
    "queue_size",
    "decode_threads",
    "max_body_bytes",
    "max_images",
    "max_image_pixels",
    "request_timeout",
    "drain_delay",
    "shutdown_timeout",
)


def _read_vertex(name: str) -> str | None:
    return os.environ.get(VERTEX_PREFIX + name) or None


def _default_port() -> Any:
    return _read_vertex("HTTP_PORT") or 8000


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
        cli_kebab_case=True,
        cli_prog_name="python -m app",
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    checkpoint: Path = Field(Path("checkpoints/digits.safetensors"), description="the .safetensors file to serve")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(
        default_factory=_default_port,
        ge=0,
        le=65535,
        description="TCP port; 0 takes a free one and prints it",
    )
    root_path: str = Field("", description="path under which a proxy shows this server, as in /models/digits")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may call, separated by commas, as in https://a.example; * for all"
    )
    vertex_health_route: str | None = Field(
        default_factory=lambda: _read_vertex("HEALTH_ROUTE"), description="one more path that tells whether it is ready"
    )
    vertex_predict_route: str | None = Field(
        default_factory=lambda: _read_vertex("PREDICT_ROUTE"), description="one more path that takes Vertex AI's JSON"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N; auto takes the GPU where there is one")
    devices: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="one model replica for each name, separated by commas, as in cuda:0,cuda:1; overrides device"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="precision of the model; auto takes the fastest that keeps the golden sample's answer"
    )
    max_batch: int | None = Field(None, ge=1, description="images of a batch at most; measured at start if not given")
    queue_size: int = Field(256, ge=1, description="images that are being decoded or wait for the model, at most")
    decode_threads: int = Field(min(8, os.cpu_count() or 1), ge=1, description="threads that decode images")
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="size of a request's body at most, in bytes")
    max_images: int = Field(
        default_factory=_default_max_images,
        ge=1,
        description="images of one request at most, and not above queue_size",
    )
    max_image_pixels: int = Field(64_000_000, ge=1, description="width x height of an image at most, by its header")
    request_timeout: float = Field(30.0, gt=0, allow_inf_nan=False, description="seconds that a request may take")
    drain_delay: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds after SIGTERM in which requests are accepted",
    )
    shutdown_timeout: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="seconds after that for the requests in flight"
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="keys separated by commas, of which callers must send one; without keys all may call",
    )
    api_keys_file: Path | None = Field(None, description="file with more keys, one a line; read again at a reload")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="TCP port for /metrics; without it /metrics is on the main port"
    )
    log_format: Literal["text", "json"] = Field("text", description="format of the log, one line for each request")

    @field_validator("devices", "api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        if path and not PATH.fullmatch(path):
            raise ValueError("must begin with / and not end with it, as in /models/digits")
        return path

    @field_validator("vertex_health_route", "vertex_predict_route")
    @classmethod
    def _check_route(cls, path: str | None) -> str | None:
        if path is not None and not PATH.fullmatch(path):
            raise ValueError("must begin with / and not end with it, as in /v1/endpoints/1:predict")
        return path

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} must be * or SCHEME://HOST, or SCHEME://HOST:PORT, without a path")
        return origins

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_images > self.queue_size:
            raise ValueError(f"max_images is {self.max_images}, but must not be above queue_size, {self.queue_size}")
        return self

    def keys(self) -> tuple[str, ...]:
        """All API keys, those of the file included. Raises ValueError if it cannot be read or is empty."""
        keys = [key.get_secret_value() for key in self.api_keys]
        if self.api_keys_file is None:
            return tuple(keys)
        try:
            lines = self.api_keys_file.read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"api_keys_file is {self.api_keys_file}, but cannot be read: {error}") from error
        if not lines:
            raise ValueError(f"api_keys_file is {self.api_keys_file}, but has no key in it")
        return (*keys, *lines)

    def limits(self) -> dict[str, float]:
        """Every limit by its setting's name, as `GET /model` shows it."""
        return {name: getattr(self, name) for name in LIMITS}


def read_settings(arguments: list[str]) -> Settings:
    """The settings. The command line has precedence over the environment, and the environment over the defaults.

    Raises ValueError with one line for each fault, which names the setting. Exits for `--help` as argparse does.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise ValueError(f"unknown variable {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(Settings)
        _write_plain_help(source.root_parser)
        return CliApp.run(Settings, [_use_hyphens(argument) for argument in arguments], cli_settings_source=source)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if fault["type"] != "default_factory_not_called"]
        raise ValueError("\n".join(map(_one_line, faults))) from error
    except SettingsError as error:
        raise ValueError(str(error)) from error


def apply_serve(arguments: list[str]) -> list[str]:
    """The arguments without a first `serve`, with which SageMaker runs a container. It changes some defaults.

    SageMaker connects to port 8080, or to the one that it names in a variable. It ends the process 30 seconds after
    SIGTERM.
    """
    if arguments[:1] != ["serve"]:
        return arguments
    defaults = SERVE_DEFAULTS | {"port": os.environ.get(SAGEMAKER_PORT) or SERVE_DEFAULTS["port"]}
    given = {name for name in defaults if os.environ.get(PREFIX + name.upper())}
    return [*(f"--{name}={value}" for name, value in defaults.items() if name not in given), *arguments[1:]]


def _write_plain_help(parser: argparse.ArgumentParser) -> None:
    """Gives each flag a plain type and its real default, in place of Python's names for them."""
    for name, field in Settings.model_fields.items():
        action = next(action for action in parser._actions if action.dest == name)  # argparse has no public list
        kinds = (field.annotation, *get_args(field.annotation))
        metavar = next((metavar for kind, metavar in METAVARS.items() if kind in kinds), "TEXT")
        action.metavar = "|".join(kinds[1:]) if get_origin(field.annotation) is Literal else metavar
        default = DEFAULTS.get(name, "none" if field.default in (None, ()) else str(field.default))
        action.help = f"{field.description} [{default}]"


def _one_line(fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    return f"{name} is {fault['input']!r}: {message}" if name != "api_keys" else f"{name}: {message}"


def _use_hyphens(argument: str) -> str:
    """Takes --max_images for --max-images: both spellings are natural for a setting named max_images."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value
