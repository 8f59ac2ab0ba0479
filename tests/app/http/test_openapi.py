"""The OpenAPI document and the server agree, over requests that a fuzzer derives from the document."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fakes.servers import listening

POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
KEY = {"X-API-Key": "secret"}


@pytest.fixture(scope="module")
def document(checkpoint: Path) -> Iterator[Any]:
    """The document of a running server."""
    with listening(checkpoint, api_keys="secret") as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_answer_is_one_that_the_document_promises(document: Any) -> None:
    """Status, content type and body of every answer are documented, and no request makes the server fail.

    One check is left out: that what fits the document is accepted. Whether bytes are an image, and how
    many labels there are, a document cannot say.
    """
    operations = [found.ok() for found in document.get_all_operations()]
    bad = [operation for operation in operations if operation.path == "/predict"]  # the others take nothing
    for operation, mode in [*product(operations, [POSITIVE]), *product(bad, [NEGATIVE])]:

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(headers=KEY, excluded_checks=[positive_data_acceptance])

        ask()
    assert {operation.path for operation in operations} >= {"/predict", "/model", "/health/ready", "/admin/reload"}
