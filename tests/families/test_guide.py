"""The guide to adding a family works as it is written."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from family_reference import assert_close, rewards
from tiny_checkpoints import (
    HIDDEN,
    hidden_states,
    plain_model,
    random_tensors,
    write_checkpoint,
)

from rewardserve.families import dispatch
from rewardserve.families.loading import load_model
from rewardserve.families.registry import ModelSpec

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-family.md"


def test_the_guides_family_loads_and_passes_its_own_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family_code, test_code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    module: dict[str, object] = {}
    exec(family_code, module)
    monkeypatch.setattr(dispatch, "FAMILIES", (*dispatch.FAMILIES, module["VERDICT"]))
    names = {
        "HIDDEN": HIDDEN,
        "assert_close": assert_close,
        "hidden_states": hidden_states,
        "load_model": load_model,
        "plain_model": plain_model,
        "random_tensors": random_tensors,
        "rewards": rewards,
        "torch": torch,
        "write_checkpoint": write_checkpoint,
    }
    exec(test_code, names)
    names["test_verdict_is_the_smaller_projection"](tmp_path)


def test_the_guides_registry_entry_is_valid() -> None:
    (entry,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    for facts in yaml.safe_load(entry).values():
        assert ModelSpec.model_validate(facts).family == "verdict"
