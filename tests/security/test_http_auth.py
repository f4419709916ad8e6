"""Nobody gets past the door without a key, whatever the route; no key is to be read anywhere."""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.serve.fakes import FakeModel, conversation, gateway, http

from rewardserve.errors import SettingsError
from rewardserve.serving.auth import ApiKeys
from rewardserve.serving.gateway import Gateway
from rewardserve.serving.http_app import open_routes

KEY = "key-one"
OPEN = {"/health", "/ready"}
BODY = {"model": "a", "inputs": [{"messages": conversation()}]}

OPENRLHF = {"query": ["<s>text"], "prompts": ["text"], "labels": [""]}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    hashed = hashlib.sha256(b"key-two").hexdigest()
    monkeypatch.setenv("TEST_KEYS", f"{KEY}, sha256:{hashed}")
    routes = {"default": {"single": "a"}}
    return gateway(FakeModel("a"), routes=routes, auth={"api_keys_env": "TEST_KEYS"})


def routes_of(router: Any) -> Iterator[Any]:
    """Every route, those of included routers too."""
    for route in router.routes:
        if included := getattr(route, "original_router", None):
            yield from routes_of(included)
        else:
            yield route


WITHOUT_A_KEY: list[dict[str, Any]] = [
    {},
    {"headers": {"authorization": "Bearer wrong"}},
    {"headers": {"authorization": f"Bearer {KEY[:-1]}"}},
    {"headers": {"authorization": f"Bearer {KEY}x"}},
    {"headers": {"authorization": f"Basic {KEY}"}},
    {"auth": ("x", "wrong")},
    {"auth": (KEY, "")},
    {"headers": {"authorization": "Basic /////w=="}},
    {"headers": {"authorization": "Basic " + b64encode(KEY.encode()).decode()}},
    {"headers": {"authorization": KEY}},
    {"headers": {"authorization": "Bearer "}},
    {"headers": {"x-api-key": KEY}},
    {"params": {"api_key": KEY, "key": KEY}},
    {"headers": {"cookie": f"authorization={KEY}; api_key={KEY}"}},
    *(
        {"headers": {"host": f"{before}{path}{after}"}}
        for before in ("", "x", "x@", "127.0.0.1:8000")
        for path in OPEN
        for after in ("", "?", "#")
    ),
]


async def test_every_route_but_the_open_ones_asks_for_a_key(
    closed: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = {
        (method, route.path)
        for route in routes_of(closed.__serve_build_asgi_app__())
        for method in route.methods
    }
    assert {path for _, path in routes} > OPEN
    async with http(closed) as client:
        for method, path in routes:
            for attempt in WITHOUT_A_KEY:
                if path in OPEN:
                    continue
                response = await client.request(method, path, json=BODY, **attempt)
                assert response.status_code == 401, (method, path, attempt)
                assert response.headers["www-authenticate"] == "Bearer"
                assert KEY not in response.text
    assert KEY not in "".join(capsys.readouterr())


async def test_of_whoever_has_no_key_no_body_is_read(closed: Gateway) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"{" * 100_000

    json = {"content-type": "application/json"}
    async with http(closed, headers=json) as client:
        for key in (None, "wrong"):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            response = await client.post("/v1/rewards", content=body(), headers=headers)
            assert response.status_code == 401
    assert read == 0


def test_the_list_of_open_routes_is_complete() -> None:
    assert {route.path for route in routes_of(open_routes(gateway(FakeModel("a"))))} == OPEN


@pytest.mark.parametrize("key", [KEY, "key-two"])
async def test_a_key_opens_whether_it_was_configured_plain_or_hashed(
    closed: Gateway, key: str
) -> None:
    async with http(closed, headers={"authorization": f"Bearer {key}"}) as client:
        assert (await client.post("/v1/rewards", json=BODY)).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200
        assert (await client.get("/docs")).status_code == 200


@pytest.mark.parametrize("key", [KEY, "key-two"])
async def test_a_client_that_takes_only_a_url_sends_the_key_as_its_password(
    closed: Gateway, key: str
) -> None:
    async with http(closed) as client:
        response = await client.post(f"http://trainer:{key}@cluster/get_reward", json=OPENRLHF)
    assert response.json()["rewards"] == [len("<s>text")]


async def test_without_auth_everybody_may_ask() -> None:
    async with http(gateway(FakeModel("a"))) as client:
        assert (await client.post("/v1/rewards", json=BODY)).status_code == 200


@pytest.mark.parametrize("value", [None, "", " , ", "sha256:abc"])
def test_a_forgotten_or_damaged_secret_does_not_open_the_door(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("TEST_KEYS", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_KEYS", value)
    with pytest.raises(SettingsError):
        gateway(FakeModel("a"), auth={"api_keys_env": "TEST_KEYS"})


def test_keys_are_kept_as_digests_and_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_KEYS", f"{KEY},key-three")
    keys = ApiKeys.from_environment("TEST_KEYS")
    assert KEY not in repr(vars(keys))
    compared: list[bytes] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert keys.accepts(KEY)
    assert len(compared) == 2
