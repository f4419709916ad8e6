"""Hostile requests: strange text, forbidden fields, foreign paths. No 5xx, no file opened."""

import json
import random
import sys
from typing import Any

import pytest
from tests.serve.fakes import FakeModel, conversation, gateway, http

SPECIAL = [
    "<|im_end|>",
    "<|eot_id|>",
    "<start_of_turn>user",
    "[INST]",
    "</s>",
    "<bos><eos><pad>",
    "{{ config }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "${jndi:ldap://x}",
    "'; DROP TABLE rewards;--",
    "../../etc/passwd",
    "%s%n%x",
    "\x00",
    "\r\nX-Injected: 1",
    "\u202e\u2066\u200f",
    "\ufeff\ufffe\uffff",
    "\ud800",
    "a\udfffb",
    "e" + "\u0301" * 1000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 50,
    "NaN",
    "-Infinity",
    "null",
    " ",
    "\t\n\v\f",
]


def nasty_strings() -> list[str]:
    """The special ones, and seeded mixtures of them with random code points."""
    chance = random.Random(20)
    mixed = [
        "".join(
            chance.choice([chance.choice(SPECIAL), chr(chance.randrange(0x110000))])
            for _ in range(chance.randrange(1, 12))
        )
        for _ in range(200)
    ]
    return [*SPECIAL, *mixed]


async def test_nasty_strings_are_scored_or_refused_and_never_crash() -> None:
    async with http(gateway(FakeModel("a"))) as client:
        for text in nasty_strings():
            body = {"model": "a", "inputs": [{"prompt": text, "responses": [text]}]}
            response = await client.post(
                "/v1/rewards",
                content=json.dumps(body),
                headers={"content-type": "application/json"},
            )
            lone = any(0xD800 <= ord(character) < 0xE000 for character in text)
            assert response.status_code == (422 if lone else 200), ascii(text)


FORBIDDEN = [
    "chat_template",
    "chat_template_kwargs",
    "model_path",
    "url",
    "trust_remote_code",
    "revision",
    "tokenizer",
    "code",
    "__class__",
    "file",
    "source",
    "template",
    "dtype",
    "device",
    "callback",
    "webhook",
    "pickle",
]


@pytest.mark.parametrize("field", FORBIDDEN)
async def test_fields_that_would_reach_further_than_scoring_are_refused(field: str) -> None:
    places: list[dict[str, Any]] = [
        {"inputs": [{"messages": conversation()}], field: "x"},
        {"inputs": [{"messages": conversation(), field: "x"}]},
    ]
    async with http(gateway(FakeModel("a"))) as client:
        for body in places:
            response = await client.post("/v1/rewards", json={"model": "a", **body})
            assert response.status_code == 422


async def test_no_model_name_opens_a_file_or_a_connection() -> None:
    names = [
        f"{prefix}{name}"
        for prefix in ("", "/", "../", "../../../../", "file://", "http://127.0.0.1:1/", "a/../")
        for name in ("etc/passwd", "tmp", "a\x00b", "%2e%2e%2fetc", "C:\\x", "models", "hub/x")
    ]
    watched: list[str] = []
    watching = False

    def audit(event: str, arguments: Any) -> None:
        if watching and event in ("open", "socket.connect", "subprocess.Popen", "os.system"):
            watched.append(f"{event} {arguments}")

    sys.addaudithook(audit)
    async with http(gateway(FakeModel("a"))) as client:
        body = {"inputs": [{"messages": conversation()}]}
        await client.post("/v1/rewards", json={"model": "nobody", **body})
        watching = True
        statuses = {
            (await client.post("/v1/rewards", json={"model": name, **body})).status_code
            for name in names
        }
        watching = False
    assert statuses == {404}
    assert watched == []


async def test_a_text_over_the_limit_is_refused_before_it_is_tokenised() -> None:
    model = FakeModel("a")
    async with http(gateway(model, limits={"max_body_bytes": 20_000_000})) as client:
        response = await client.post(
            "/v1/rewards",
            json={"model": "a", "inputs": [{"messages": conversation("x" * 5_000_000)}]},
        )
    assert response.status_code == 413
    assert model.calls == []


async def test_errors_stay_small_whatever_was_sent() -> None:
    bodies: list[Any] = [
        {"inputs": [{"messages": [{"role": "x" * 10_000, "content": 1}]}] * 100},
        {"inputs": "x" * 1_000_000},
        {"x" * 100_000: 1},
        {"inputs": [{"messages": conversation(), "y" * 1000: 1}], "tags": {"k" * 5000: 5}},
    ]
    async with http(gateway(FakeModel("a"))) as client:
        for body in bodies:
            response = await client.post("/v1/rewards", json={"model": "a", **body})
            assert response.status_code == 422
            assert len(response.content) <= 2048
            assert "xxx" not in response.text
            assert "yyy" not in response.text
