"""The page on protocols names the paths that are served, and no others."""

import re
from pathlib import Path

from tests.serve.fakes import FakeModel, gateway

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
NATIVE = {"/v1/rewards", "/v1/models", "/health", "/ready"}


def test_the_table_has_every_path_of_a_dialect() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(/[a-z0-9_/]+)`", " ".join(rows[:11])))
    served = gateway(FakeModel("a")).__serve_build_asgi_app__().openapi()["paths"].keys()
    assert named - NATIVE == set(served) - NATIVE
