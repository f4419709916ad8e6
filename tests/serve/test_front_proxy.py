"""HAProxy with the shipped configuration in front of the served app. Skipped where it is absent."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.serve.conftest import free_port
from tests.serve.fakes import FakeModel, conversation, gateway, raising
from tests.serve.sockets import served_on

from rewardserve.errors import Busy
from rewardserve.serving.router_settings import Limits

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
CONFIG = Path(__file__).parents[2] / "ops" / "front-proxy.cfg"
BODY: dict[str, Any] = {"model": "a", "inputs": [{"messages": conversation()}]}

pytestmark = [
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="HAProxy is not installed"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed"),
]


@dataclass(frozen=True)
class Front:
    """The proxy's port, who may connect to it, and the model behind the gateway behind it."""

    port: int
    certificates: Path
    model: FakeModel

    def tls(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificates / "server.pem"))
        if with_certificate:
            context.load_cert_chain(self.certificates / "clients.pem")
        return context

    def client(self, **tls: bool) -> httpx2.Client:
        headers = {"authorization": "Bearer key-one"}
        url = f"https://localhost:{self.port}"
        return httpx2.Client(base_url=url, verify=self.tls(**tls), headers=headers, timeout=30)

    def connection(self) -> ssl.SSLSocket:
        """A connection of an admitted client that has said nothing yet."""
        plain = socket.create_connection(("localhost", self.port), timeout=30)
        return self.tls().wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    for name in ("server", "clients"):
        certify(folder / f"{name}.pem")
    model = FakeModel("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_KEYS", "key-one")
        app = gateway(model, auth={"api_keys_env": "TEST_KEYS"}).__serve_build_asgi_app__()
    with served_on(app) as address:
        port = free_port()
        config = folder / "front-proxy.cfg"
        config.write_text(adapted(CONFIG.read_text(), folder, port, address))
        with subprocess.Popen([HAPROXY, "-db", "-f", str(config)]) as proxy:
            try:
                front = Front(port, folder, model)
                wait_for(front)
                yield front
            finally:
                proxy.terminate()


def adapted(text: str, certificates: Path, port: int, address: str) -> str:
    """The shipped configuration on a port, with certificates and a node of the test."""
    places = {
        "/etc/haproxy/certs": str(certificates),
        "bind :443": f"bind localhost:{port}",
        "127.0.0.1:8000": address,
    }
    for shipped, own in places.items():
        assert shipped in text
        text = text.replace(shipped, own)
    return text


def certify(path: Path) -> None:
    """A key and a certificate for localhost, signed by itself, in one file."""
    certificate = path.with_suffix(".crt")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", path, "-out", certificate]
    subprocess.run([*new, *names, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + certificate.read_text())


def wait_for(front: Front) -> None:
    for _ in range(200):
        try:
            with front.client() as client:
                if client.get("/health").status_code == 200:
                    return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the proxy did not come up")


def test_the_configuration_is_a_good_one(front: Front) -> None:
    config = str(front.certificates / "front-proxy.cfg")
    checked = subprocess.run(
        [HAPROXY, "-c", "-f", config], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_scores_pass_and_a_wrong_key_does_not(front: Front) -> None:
    with front.client() as client:
        assert client.post("/v1/rewards", json=BODY).status_code == 200
        wrong = client.post("/v1/rewards", json=BODY, headers={"authorization": "Bearer key"})
    assert wrong.status_code == 401


def test_without_a_client_certificate_nobody_is_heard(front: Front) -> None:
    with front.client(with_certificate=False) as client, pytest.raises(httpx2.TransportError):
        client.post("/v1/rewards", json=BODY)


def test_busy_comes_through_with_the_time_to_come_back(front: Front) -> None:
    front.model.behave = raising(Busy("full", retry_after_s=2.5))
    try:
        with front.client() as client:
            response = client.post("/v1/rewards", json=BODY)
    finally:
        front.model.behave = None
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_413_in_the_gateways_shape(front: Front, announced: bool) -> None:
    body = b" " * (Limits().max_body_bytes + 1)
    content = body if announced else (body[:1_000_000] for _ in range(5))
    calls = len(front.model.calls)
    with front.client() as client:
        response = client.post("/v1/rewards", content=content)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"
    assert len(front.model.calls) == calls


def test_serves_own_pages_are_not_shown(front: Front) -> None:
    with front.client() as client:
        response = client.get("/-/routes")
    # The gateway has no such page, but would have said so as JSON.
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html")


def test_headers_that_do_not_fit_are_refused(front: Front) -> None:
    with front.client() as client:
        response = client.get("/health", headers={"x-long": "x" * 16_384})
    assert response.status_code == 400


@pytest.mark.nightly
def test_a_connection_whose_headers_never_end_is_closed_and_disturbs_nobody(front: Front) -> None:
    began = time.monotonic()
    slow = [front.connection() for _ in range(100)]
    for connection in slow:
        connection.sendall(b"POST /v1/rewards HTTP/1.1\r\nHost: cluster\r\nX-Never: ")
    silent = [socket.create_connection(("localhost", front.port)) for _ in range(100)]
    with front.client() as client:
        while time.monotonic() - began < 8:
            asked = time.monotonic()
            assert client.post("/v1/rewards", json=BODY).status_code == 200
            assert time.monotonic() - asked < 2
            slow[0].sendall(b"x")
            time.sleep(0.5)
    for connection in (*slow, *silent):
        connection.settimeout(30)
        answer = connection.recv(1000)
        assert not answer or b"408" in answer
        assert time.monotonic() - began < 15
        connection.close()


@pytest.mark.nightly
def test_an_answer_may_take_longer_than_a_silent_client_may(front: Front) -> None:
    async def slowly(items: Sequence[Any]) -> list[float]:
        await asyncio.sleep(12)
        return [1.0] * len(items)

    front.model.behave = slowly
    try:
        with front.client() as client:
            assert client.post("/v1/rewards", json=BODY).status_code == 200
    finally:
        front.model.behave = None


@pytest.mark.nightly
def test_one_address_has_only_so_many_connections(front: Front) -> None:
    held = [socket.create_connection(("localhost", front.port)) for _ in range(1100)]
    began = time.monotonic()
    # Well before those that are let in are cut for their silence.
    while (closed := sum(map(is_closed, held))) < 76 and time.monotonic() - began < 5:
        time.sleep(0.1)
    for connection in held:
        connection.close()
    assert closed == 76


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_without_a_node_callers_are_told_to_come_back(front: Front, tmp_path: Path) -> None:
    port, nobody = free_port(), f"127.0.0.1:{free_port()}"
    config = tmp_path / "front-proxy.cfg"
    config.write_text(adapted(CONFIG.read_text(), front.certificates, port, nobody))
    with subprocess.Popen([HAPROXY, "-db", "-f", str(config)]) as proxy:
        try:
            lonely = Front(port, front.certificates, front.model)
            response = answer_of(lonely)
        finally:
            proxy.terminate()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert json.loads(response.text)["error"]["code"] == "busy"


def answer_of(front: Front) -> httpx2.Response:
    with front.client() as client:
        for _ in range(200):
            try:
                return client.post("/v1/rewards", json=BODY)
            except httpx2.ConnectError:
                time.sleep(0.05)
    raise AssertionError("the proxy did not come up")
