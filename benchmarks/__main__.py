"""Runs every benchmark, one after the other, or lists them.

python -m benchmarks               # all; most of two hours on two cores
python -m benchmarks --quick       # all, few repeats: figures that only show that it runs
python -m benchmarks --list
"""

import argparse
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Final

from benchmarks.measure import RESULTS, ROOT

COMMANDS: Final = {
    "engine --backbone llama gemma2": "one CPU thread, CPU seconds, float32, beside every peer",
    "engine --dtype float32 bfloat16 --threads 2": "two CPU threads, wall seconds, Llama",
    "serving": "one-sample callers, HTTP and handle, beside other servers",
    "bulk": "a corpus from Parquet to Parquet, beside plain loops",
    "gpu": "real model sizes on a CUDA device, where there is one",
}
"""Each takes `--quick` (but `gpu`) and keeps its figures in the folder given as `--results`."""


def main() -> int:
    """Run each command in a process of its own; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    failed = []
    for command, about in COMMANDS.items():
        print(f"\n## python -m benchmarks.{command}\n\n{about}\n", flush=True)
        if not options.list and run(command, quick=options.quick) != 0:
            failed.append(command)
    for command in failed:
        print(f"failed: python -m benchmarks.{command}")
    return 1 if failed else 0


def run(command: str, *, quick: bool) -> int:
    """One command's exit status; what it prints goes through."""
    module, *arguments = shlex.split(command)
    if find_spec(f"benchmarks.{module}") is None:
        print("not written yet")
        return 0
    if quick and module == "gpu":
        arguments.append("--tiny")
    elif quick:
        arguments.append("--quick")
    else:
        arguments += ["--results", str(RESULTS)]
    started = time.perf_counter()
    process = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    status = subprocess.run(process, cwd=ROOT, check=False).returncode
    print(f"\n{time.perf_counter() - started:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
