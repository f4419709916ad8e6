"""Hostile requests: forbidden fields, foreign paths, too much of everything. No file is opened."""

import json
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.serve.fakes import FakeModel, conversation, gateway, http

FORBIDDEN = [
    "chat_template",
    "chat_template_kwargs",
    "chat_template_content_format",
    "tokenizer_config",
    "model_path",
    "model_id",
    "base_model",
    "tokenizer",
    "tokenizer_path",
    "processor",
    "source",
    "revision",
    "code_revision",
    "commit",
    "branch",
    "url",
    "uri",
    "endpoint",
    "base_url",
    "image_url",
    "file",
    "filename",
    "path",
    "folder",
    "cache_dir",
    "download_dir",
    "local_files_only",
    "trust_remote_code",
    "auto_map",
    "custom_code",
    "code",
    "eval",
    "exec",
    "script",
    "command",
    "template",
    "jinja",
    "plugin",
    "lora_path",
    "lora_request",
    "adapter",
    "pickle",
    "torch_dtype",
    "dtype",
    "device",
    "attn_implementation",
    "use_safetensors",
    "token",
    "api_key",
    "headers",
    "proxies",
    "callback",
    "webhook",
    "__class__",
    "__init__",
]


FOREIGN_NAMES = [
    f"{prefix}{name}"
    for prefix in (
        "",
        "/",
        "../",
        "../../../../",
        "..\\..\\",
        "%2e%2e%2f",
        "file://",
        "http://127.0.0.1:1/",
        "hf://",
        "a/../",
    )
    for name in (
        "etc/passwd",
        "etc/passwd\x00a",
        "proc/self/environ",
        "tmp",
        "a\x00b",
        "%2e%2e%2fetc",
        "C:\\x",
        "models",
        "hub/x",
        "~/.ssh/id_rsa",
    )
]


@pytest.fixture
def watched() -> Iterator[list[str]]:
    """What the process opens, connects to or starts, once the fixture's list has been cleared."""
    seen: list[str] = []
    watching = True

    def audit(event: str, arguments: Any) -> None:
        if watching and event in ("open", "socket.connect", "subprocess.Popen", "os.system"):
            seen.append(f"{event} {arguments}")

    sys.addaudithook(audit)
    yield seen
    watching = False  # a hook cannot be taken out


def places_of(field: str) -> list[dict[str, Any]]:
    messages = [{**message, field: "x"} for message in conversation()]
    return [
        {"inputs": [{"messages": conversation()}], field: "x"},
        {"inputs": [{"messages": conversation(), field: "x"}]},
        {"inputs": [{"prompt": "p", "responses": ["r"], field: "x"}]},
        {"inputs": [{"messages": messages}]},
    ]


async def test_fields_that_would_reach_further_than_scoring_are_refused(
    watched: list[str],
) -> None:
    assert len(set(FORBIDDEN)) >= 50
    async with http(gateway(FakeModel("a"))) as client:
        for body in places_of("first"):
            await client.post("/v1/rewards", json={"model": "a", **body})
        watched.clear()
        for field in FORBIDDEN:
            for body in places_of(field):
                response = await client.post("/v1/rewards", json={"model": "a", **body})
                assert response.status_code == 422, (field, body)
    assert watched == []


async def test_no_model_name_opens_a_file_or_a_connection(watched: list[str]) -> None:
    assert len(set(FOREIGN_NAMES)) >= 100
    async with http(gateway(FakeModel("a"))) as client:
        body = {"inputs": [{"messages": conversation()}]}
        await client.post("/v1/rewards", json={"model": "nobody", **body})
        watched.clear()
        statuses = {
            (await client.post("/v1/rewards", json={"model": name, **body})).status_code
            for name in FOREIGN_NAMES
        }
    assert statuses == {404}
    assert watched == []


async def test_a_text_over_the_limit_is_refused_at_once_before_it_is_tokenised() -> None:
    model = FakeModel("a")
    body = {"model": "a", "inputs": [{"messages": conversation("x" * 5_000_000)}]}
    content = json.dumps(body).encode()
    async with http(gateway(model, limits={"max_body_bytes": 20_000_000})) as client:
        await client.get("/health")
        began = time.thread_time()
        response = await client.post(
            "/v1/rewards", content=content, headers={"content-type": "application/json"}
        )
        took = time.thread_time() - began
    assert response.status_code == 413
    assert took <= 0.05
    assert model.calls == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-length", b"300000000")], 413),
        ([(b"content-length", b"9" * 100)], 413),
        ([(b"x-large", b"x" * 200_000)], 431),
        ([(b"x-%d" % number, b"x" * 100) for number in range(2000)], 431),
    ],
)
async def test_what_headers_tell_to_be_too_large_is_refused_before_a_byte_is_read(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    app = gateway(FakeModel("a")).__serve_build_asgi_app__()
    scope = {"type": "http", "method": "POST", "path": "/v1/rewards", "headers": headers}
    sent: list[Any] = []

    async def receive() -> Any:
        pytest.fail("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == status
    assert len(sent[1]["body"]) <= 2048


async def test_a_body_of_300_megabytes_without_a_length_is_not_kept() -> None:
    chunk, sent = b" " * 100_000, 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 300_000_000:
            sent += len(chunk)
            yield chunk

    async with http(gateway(FakeModel("a"))) as client:
        await client.get("/health")
        tracemalloc.start()
        try:
            response = await client.post("/v1/rewards", content=body())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert response.status_code == 413
    assert sent <= 5_000_000
    assert peak <= 20_000_000


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
