"""What managed platforms tell a container: Vertex AI by variables, SageMaker by an argument.

Owns their names and the defaults of settings that follow from them.
"""

import os

VERTEX_PREFIX = "AIP_"  # https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
SAGEMAKER_ARGUMENT = "serve"  # https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT"
# SageMaker ends a container 30 seconds after SIGTERM.
SAGEMAKER_DEFAULTS = {"host": "0.0.0.0", "port": "8080", "drain_delay": "5", "shutdown_timeout": "20"}  # noqa: S104


def read_vertex_variable(name: str) -> str | None:
    """The variable of that name without its prefix, or None if it is not set or empty."""
    return os.environ.get(VERTEX_PREFIX + name) or None


def split_serve(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without a first `serve`, and the defaults of settings that it changes."""
    if arguments[:1] != [SAGEMAKER_ARGUMENT]:
        return arguments, {}
    port = os.environ.get(SAGEMAKER_PORT) or SAGEMAKER_DEFAULTS["port"]
    return arguments[1:], {**SAGEMAKER_DEFAULTS, "port": port}
