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
from dataclasses import dataclass
from typing import Final

from benchmarks.measure import RESULTS, ROOT


@dataclass(frozen=True, slots=True)
class Command:
    """One benchmark: a module of this package and its arguments."""

    name: str
    about: str
    full: str = f"--results {RESULTS}"
    """What makes the figures that are kept."""
    quick: str = "--quick"
    """What shows that it runs."""


COMMANDS: Final = (
    Command(
        "engine --backbone llama gemma2",
        "One CPU thread, CPU seconds, float32, beside every peer.",
    ),
    Command(
        "engine --dtype float32 bfloat16 --threads 2",
        "Two CPU threads, wall seconds, Llama, beside every peer.",
    ),
    Command(
        "serving", "Concurrent callers against the same replica offline, beside other servers."
    ),
    Command("autoscaling", "Bursts of work against the policy, in simulated time."),
    Command("replica_choice", "Which replica gets the next call, on simulated ones."),
    Command("bulk", "A corpus from Parquet to Parquet, beside plain loops."),
    Command(
        "bulk_units",
        "What a unit costs a bulk run's driver, to 100,000 of them.",
        quick="--units 200",
    ),
    Command("gpu", "Real model sizes on a CUDA device, where there is one.", quick="--tiny"),
)


def main() -> int:
    """Run each command in a process of its own; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    failed = []
    for command in COMMANDS:
        print(f"\n## python -m benchmarks.{command.name}\n\n{command.about}\n", flush=True)
        if not options.list and run(command, quick=options.quick) != 0:
            failed.append(command.name)
    for name in failed:
        print(f"failed: python -m benchmarks.{name}")
    return 1 if failed else 0


def run(command: Command, *, quick: bool) -> int:
    """One command's exit status; what it prints goes through."""
    extra = command.quick if quick else command.full
    module, *arguments = shlex.split(f"{command.name} {extra}")
    started = time.perf_counter()
    process = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    status = subprocess.run(process, cwd=ROOT, check=False).returncode
    print(f"\n{time.perf_counter() - started:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
