"""The Python of docs/client.md runs, against a cluster in this process."""

import re
from pathlib import Path

import pytest

from rewardserve_client import RewardClient
from rewardserve_client._errors import TWINS
from rewardserve_client._http import HttpAddress
from rewardserve_client.sampling import __all__ as sampling_names
from rewardserve_client.testing import FakeCluster, FakeTransport

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def test_the_page_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_waiting: None
) -> None:
    cluster = FakeCluster()
    monkeypatch.setattr(HttpAddress, "open", lambda address: FakeTransport(cluster))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/client.md", "exec"), names)
    client = names["client"]
    assert isinstance(client, RewardClient)
    client.close()
    assert len(blocks) >= 6
    assert names["total"] == sum(len(str(n)) for n in range(1000))


def test_the_page_names_every_error_rule_and_method() -> None:
    methods = [name for name in dir(RewardClient) if name.startswith(("score", "best", "models"))]
    rules = ["best", "above", "top_fraction", "tempered"]
    assert set(rules) <= set(sampling_names)
    below_invalid_request = ("Malformed", "InvalidConversation", "ConversationToo", "UnknownModel")
    errors = [twin.__name__ for twin in TWINS.values()]
    errors = [name for name in errors if not name.startswith(below_invalid_request)]
    assert [name for name in (*methods, *rules, *errors) if f"`{name}" not in PAGE] == []
