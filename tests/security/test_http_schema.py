"""Whatever the OpenAPI document allows is answered as it says, and what it forbids is refused."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.serve.fakes import FakeModel, gateway

APP = gateway(FakeModel("default")).__serve_build_asgi_app__()
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


EXPLORATION = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@SCHEMA.parametrize()
@settings(EXPLORATION, max_examples=50)
def test_every_operation_keeps_to_its_schema(case: schemathesis.Case) -> None:
    # A conversation is more than its schema: it ends with the assistant, for one.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@SCHEMA.parametrize()
@settings(EXPLORATION, max_examples=1000)
def test_every_operation_keeps_to_its_schema_a_thousand_times(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
