"""A zoo checkpoint passes verification with the values it was written with."""

from pathlib import Path

import pytest

from rewardserve import load_scorer
from rewardserve.families.registry import described
from rewardserve.families.verify import verify


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_zoo_verifies_in_every_dtype(zoo: Path, dtype: str) -> None:
    folder = zoo / "armorm"
    spec = described(str(folder), folder)
    scorer = load_scorer(str(folder), dtype=dtype)
    findings = verify(scorer.score, spec, half_precision=dtype != "float32")
    assert len(spec.checks) == 2 * 20
    assert [finding for finding in findings if not finding.passed] == []
