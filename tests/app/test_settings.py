"""Settings from variables and the command line."""

from pathlib import Path

import pytest

from app.cpus import count_cpus
from app.settings import Settings, read_settings, shows_keys


def test_defaults_need_nothing() -> None:
    """Without variables and arguments the digits checkpoint is served on the loopback address."""
    settings = read_settings([])
    assert settings.checkpoint == Path("checkpoints/digits.safetensors")
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_variables_and_arguments_name_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is a VGG_ variable and a flag; the flag wins."""
    monkeypatch.setenv("VGG_QUEUE_SIZE", "7")
    monkeypatch.setenv("VGG_PORT", "1")
    settings = read_settings(["--port", "2"])
    assert (settings.queue_size, settings.port) == (7, 2)


@pytest.mark.parametrize("flag", ["--max-images=3", "--max_images=3"])
def test_flags_may_be_spelt_either_way(flag: str) -> None:
    """A flag is written with hyphens or with the setting's own underscores."""
    assert read_settings([flag]).max_images == 3


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orchestrators' templates leave empty variables behind."""
    monkeypatch.setenv("VGG_MAX_BATCH", "")
    assert read_settings([]).max_batch is None


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and keys are lists; blanks around their commas do not count."""
    monkeypatch.setenv("VGG_API_KEYS", "old, new")
    settings = read_settings(["--devices", "cpu,cpu"])
    assert settings.devices == ("cpu", "cpu")
    assert [key.get_secret_value() for key in settings.api_keys] == ["old", "new"]


def test_keys_are_not_shown() -> None:
    """A key never appears in the settings' own representation."""
    assert "hunter2" not in repr(read_settings(["--api-keys", "hunter2"]))


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
@pytest.mark.parametrize("name", ["VGG_API_KEYS", "vgg_api_keys"])
def test_a_variable_for_keys_without_a_key_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A template without a value must not open the server."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"(?i)api_keys"):
        read_settings([])


def test_a_variable_for_the_keys_file_must_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one is an error, as one for the keys is."""
    monkeypatch.setenv("VGG_API_KEYS_FILE", "")
    with pytest.raises(ValueError, match="VGG_API_KEYS_FILE"):
        read_settings([])


def test_variables_of_others_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable without the prefix belongs to another program, also an empty one."""
    monkeypatch.setenv("API_KEYS", "")
    assert read_settings([]).keys() == ()


def test_a_keys_file_that_is_bad_is_named(tmp_path: Path) -> None:
    """The error has the setting, the file and the line."""
    path = tmp_path / "keys"
    path.write_text("fine\nhunter 2\n")
    with pytest.raises(ValueError, match=r"api_keys_file is .*keys, but it has several words in line 2"):
        read_settings(["--api-keys-file", str(path)]).keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api-keys", "fine,hunt er2"],
        ["--api-keys", "h\xfcnter2"],
        ["--api-keys", "fine", "hunter2"],
        ["--api-keys", "fine", "--api-keys", "hunter2"],
        ["--api-key=hunter2"],
        ["--api-key", "hunter2"],
        ["--api-keys", "--hunter2"],
        ["hunter2"],
        ["-k", "hunter2"],
        ["--api-keys", "hunter2", "--max-images", "9", "--queue-size", "8"],
        ["--api-keys", "hunter2", "--port", "http"],
    ],
)
def test_no_error_shows_a_key(arguments: list[str]) -> None:
    """Neither does the error behind it, of which a traceback would be made."""
    with pytest.raises(ValueError, match=r".") as error:
        read_settings(arguments)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert not any(part in str(error.value) for part in ("hunter2", "hunt", "nter2"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "1", "--port=2"], "--port is given twice"),
        (["--max-images", "3", "--max_images", "3"], "--max_images is given twice"),
        (["--port"], "--port has no value"),
        (["--port", "--host"], "--port has no value"),
        (["--prot", "1"], "unknown flag --prot"),
        (["--host", "a", "b"], "argument 3 belongs to no flag"),
    ],
)
def test_a_bad_command_line_is_one_line(arguments: list[str], words: str) -> None:
    """The error names the flag, or the place of a word that belongs to none."""
    with pytest.raises(ValueError, match=words):
        read_settings(arguments)


def test_a_value_may_begin_with_hyphens() -> None:
    """Keys may hold any visible character, also at their beginning."""
    assert read_settings(["--api-keys=--k=ey"]).keys() == ("--k=ey",)
    assert read_settings(["--api-keys", "-key"]).keys() == ("-key",)


def test_keys_on_the_command_line_are_noticed() -> None:
    """Other users of the machine can see them, which is worth a warning."""
    assert shows_keys(["--port", "1", "--api_keys", "a"])
    assert not shows_keys(["--api-keys-file", "a"])


def test_every_limit_is_a_field_that_says_so() -> None:
    """GET /model shows the settings that are marked as limits."""
    limits = read_settings(["--queue-size", "9"]).limits()
    assert limits["queue_size"] == 9
    assert set(limits) >= {"max_body_bytes", "max_images", "max_image_pixels", "request_timeout", "decode_threads"}
    assert {"port", "api_keys", "max_batch"}.isdisjoint(limits)


def test_decoding_threads_follow_the_machine() -> None:
    """There is one for each CPU that the process may use, and never more than eight."""
    assert read_settings([]).decode_threads == min(8, count_cpus())


def test_max_images_follows_a_small_queue() -> None:
    """Where only the queue is made small, a request may still fill it."""
    assert read_settings(["--queue-size", "5"]).max_images == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], ["port", "'99999'", "65535"]),
        (["--port", "http"], ["port", "'http'", "integer"]),
        (["--request-timeout", "nan"], ["request_timeout", "finite"]),
        (["--dtype", "int8"], ["dtype", "'int8'", "bfloat16"]),
        (["--queue-size", "0"], ["queue_size", "'0'", "1"]),
        (["--max-images", "9", "--queue-size", "8"], ["max_images", "9", "queue_size", "8"]),
        (["--root-path", "models"], ["root_path", "'models'", "/"]),
        (["--root-path", "/models/"], ["root_path", "'/models/'", "/"]),
        (["--cors-origins", "https://a.example,a.example"], ["cors_origins", "'a.example'", "SCHEME"]),
        (["--cors-origins", "https://a.example/page"], ["cors_origins", "'https://a.example/page'", "path"]),
        (["--vertex-predict-route", "/{name}"], ["vertex_predict_route", "'/{name}'", "/"]),
    ],
)
def test_a_bad_value_is_named_with_its_range(arguments: list[str], words: list[str]) -> None:
    """The error is one line with the setting, the value and what is allowed."""
    with pytest.raises(ValueError, match=r".") as error:
        read_settings(arguments)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is named rather than ignored."""
    monkeypatch.setenv("VGG_QUEUESIZE", "7")
    with pytest.raises(ValueError, match="VGG_QUEUESIZE"):
        read_settings([])


def test_vertex_ai_sets_the_port_and_two_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables are the defaults of settings, which win over them."""
    monkeypatch.setenv("AIP_HTTP_PORT", "8080")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/health")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/endpoints/1:predict")
    settings = read_settings([])
    assert (settings.port, settings.vertex_health_route) == (8080, "/health")
    assert settings.vertex_predict_route == "/v1/endpoints/1:predict"
    assert read_settings(["--port", "9000"]).port == 9000
    monkeypatch.setenv("AIP_HTTP_PORT", "http")
    with pytest.raises(ValueError, match="port is 'http'"):
        read_settings([])


def test_serve_is_sagemakers_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes defaults: variables and flags win over it. The drain ends within SageMaker's 30 seconds."""
    monkeypatch.setenv("PORT", "9")  # which is no variable of the server's
    settings = read_settings(["serve"])
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)  # noqa: S104
    assert settings.drain_delay + settings.shutdown_timeout < 30
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "8081")
    monkeypatch.setenv("VGG_SHUTDOWN_TIMEOUT", "7")
    settings = read_settings(["serve", "--drain-delay", "2"])
    assert (settings.port, settings.drain_delay, settings.shutdown_timeout) == (8081, 2, 7)
    assert shows_keys(["serve", "--api-keys", "a"])


def test_every_setting_is_explained() -> None:
    """The help text has a sentence for each setting."""
    assert all(field.description for field in Settings.model_fields.values())


def test_help_shows_plain_types_and_real_defaults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Help names no Python type, and each flag has its default."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match="0"):
        read_settings(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m app ")
    assert "--drain-delay SECONDS" in text
    assert "--checkpoint FILE" in text
    assert "[64, or queue_size if that is smaller]" in text
    assert "[33554432]" in text
    assert not any(word in text for word in ("tuple", "SecretStr", "factory", "default: None", " str ", " int "))
