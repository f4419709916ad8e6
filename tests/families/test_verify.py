"""Verification tells a model that gives its published numbers from one that does not."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_scores import write_armorm
from tiny_checkpoints import HIDDEN, random_tensors, write_checkpoint

from rewardserve import load_scorer
from rewardserve.families.registry import described, registry
from rewardserve.families.verify import verify
from rewardserve_client import Conversation, Reward


def recorded(folder: Path, source: str, example: str) -> None:
    """Mark `folder` as a copy of `source` with its present score as the published one."""
    scorer = load_scorer(str(folder))
    (reward,) = scorer.score([registry().examples[example].conversation])
    check = {"example": example, "expected": reward.score, "tolerance": 1e-4}
    (folder / "rewardserve.json").write_text(json.dumps({"registry": source, "checks": [check]}))


@pytest.fixture
def armorm(tmp_path: Path) -> Path:
    folder = write_armorm(tmp_path)
    recorded(folder, "RLHFlow/ArmoRM-Llama3-8B-v0.1", "beautiful")
    return folder


def test_a_checkpoint_with_its_recorded_values_passes(armorm: Path) -> None:
    findings = verify(load_scorer(str(armorm)).score, described(str(armorm), armorm))
    assert all(finding.passed for finding in findings), findings
    names = [finding.check for finding in findings]
    assert "beautiful: score" in names
    assert "apples-right: packed = alone" in names
    assert "olympics: sum of weight x attribute = score" in names


def test_other_weights_fail_the_recorded_values_and_keep_the_invariants(
    armorm: Path, tmp_path: Path
) -> None:
    spec = described(str(armorm), armorm)
    other = write_checkpoint(
        tmp_path / "other",
        "LlamaForSequenceClassification",
        backbone="llama",
        head=random_tensors({"score.weight": [1, HIDDEN]}, seed=9),
        template="llama3",
    )
    findings = verify(load_scorer(str(other)).score, spec)
    assert [finding.check for finding in findings if not finding.passed] == ["beautiful: score"]


def test_a_model_that_scores_a_pack_otherwise_than_alone_is_caught() -> None:
    def batch_dependent(conversations: Sequence[Conversation]) -> list[Reward]:
        return [Reward(score=float(len(conversations)), model="m") for _ in conversations]

    findings = verify(batch_dependent, registry().models["Skywork/Skywork-Reward-V2-Qwen3-0.6B"])
    assert len(findings) == len(registry().examples)
    assert not any(finding.passed for finding in findings)


def test_a_missing_attribute_is_a_failed_check() -> None:
    def plain(conversations: Sequence[Conversation]) -> list[Reward]:
        return [Reward(score=0.0, model="m") for _ in conversations]

    spec = registry().models["RLHFlow/ArmoRM-Llama3-8B-v0.1"]
    failed = [finding.check for finding in verify(plain, spec) if not finding.passed]
    assert len(failed) == len(spec.checks)
