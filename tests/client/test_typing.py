"""What users write type-checks, and the checkers see the types that are promised."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "checker",
    [
        ["mypy"],
        pytest.param(["pyright", "--pythonpath", sys.executable], marks=pytest.mark.nightly),
    ],
)
def test_type_checkers_accept_the_public_api(checker: list[str]) -> None:
    command = [sys.executable, "-m", *checker, "tests/typing/api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
