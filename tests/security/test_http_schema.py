"""Whatever the OpenAPI document allows is answered as it says, and what it forbids is refused."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.serve.fakes import FakeModel, gateway

APP = gateway(FakeModel("default")).__serve_build_asgi_app__()
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


@SCHEMA.parametrize()
@settings(
    max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
def test_every_operation_keeps_to_its_schema(case: schemathesis.Case) -> None:
    # A conversation is more than its schema: it ends with the assistant, for one.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
