"""Ready is what answers; asleep is fine; anything else is named."""

from typing import Any

import pytest
from tests.serve.fakes import FakeModel, gateway, http, never, raising, status_of

from rewardserve.errors import ModelFailed
from rewardserve.serving.model_states import state_of


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({}, "ready"),
        ({"status": "DEPLOYING", "deployment": "UPDATING", "running": 0}, "starting"),
        ({"status": "DEPLOYING", "deployment": "UPDATING", "running": 1}, "ready"),
        ({"status": "UNHEALTHY", "deployment": "UNHEALTHY", "running": 0}, "starting"),
        ({"status": "UNHEALTHY", "deployment": "UNHEALTHY", "running": 1}, "ready"),
        ({"deployment": "HEALTHY", "running": 0}, "asleep"),
        ({"deployment": "UPSCALING", "running": 0}, "waking"),
        ({"status": "DEPLOY_FAILED", "running": 0}, "deploy_failed"),
    ],
)
def test_the_state_of_a_model_is_read_from_serve(said: Any, state: str) -> None:
    assert state_of("m", status_of(m=said)) == state


def test_a_model_without_an_application_is_missing() -> None:
    assert state_of("m", status_of()) == "missing"


async def test_ready_names_the_models_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewardserve.serving.model_states.PROBE_S", 0.01)
    good, hanging, broken = (FakeModel(name) for name in ("good", "hanging", "broken"))
    hanging.describes = never
    broken.describes = raising(ModelFailed("broken"))
    async with http(gateway(good, hanging, broken)) as client:
        response = await client.get("/ready")
        assert response.status_code == 503
        assert response.json() == {"status": "waiting", "waiting_for": ["hanging", "broken"]}
        entries = (await client.get("/v1/models")).json()["data"]
    assert {entry["id"]: entry["state"] for entry in entries} == {
        "good": "ready",
        "hanging": "silent",
        "broken": "silent",
    }


async def test_ready_is_ready_when_every_model_answers() -> None:
    async with http(gateway(FakeModel("a"), FakeModel("b"))) as client:
        response = await client.get("/ready")
    assert (response.status_code, response.json()["waiting_for"]) == (200, [])
