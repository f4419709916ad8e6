"""Measuring: interleaved repeats, medians, and what has to be written down beside a figure.

Knows clocks, the machine and tables. Knows nothing of models or peers.

A benchmark gives each contender as a callable that does the work once and tells what it cost:

    samples = interleave({"ours": run_ours, "peer": run_peer}, repeats=3)
    print(table([{"who": who, **summary(runs)} for who, runs in samples.items()]))
    print(ratio_of_medians(samples["peer"], samples["ours"]))
    save("engine", {"rows": rows})
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Final, Literal, TypeVar

Result = TypeVar("Result")
Clock = Callable[[], float]
Unit = Literal["wall_s", "cpu_s"]

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost."""

    wall_s: float
    cpu_s: float
    """Of all threads of the process that did the work; not of its children."""


def timed(
    work: Callable[[], Result], *, wall: Clock = time.perf_counter, cpu: Clock = time.process_time
) -> tuple[Result, Sample]:
    """What `work` gives, and what it cost."""
    wall_before, cpu_before = wall(), cpu()
    result = work()
    return result, Sample(wall() - wall_before, cpu() - cpu_before)


def interleave(
    contenders: Mapping[str, Callable[[], Sample]], *, repeats: int, budget_s: float | None = None
) -> dict[str, list[Sample]]:
    """Samples of every contender, taken in turns so that a slow minute of the machine hits all.

    Each runs `repeats` times, with `budget_s` fewer: no further run is started once the
    contender's runs have taken that many wall seconds together. The order turns by one a round,
    so that nobody always follows the same neighbour.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    names = list(contenders)
    for _ in range(repeats):
        for name in names:
            spent = sum(sample.wall_s for sample in samples[name])
            if not samples[name] or budget_s is None or spent < budget_s:
                samples[name].append(contenders[name]())
        names = names[1:] + names[:1]
    return samples


def median_of(samples: Iterable[Sample], unit: Unit = "wall_s") -> float:
    """Median seconds of some runs."""
    return median(sample.wall_s if unit == "wall_s" else sample.cpu_s for sample in samples)


def ratio_of_medians(
    slower: Iterable[Sample], faster: Iterable[Sample], unit: Unit = "wall_s"
) -> float:
    """How many times as long the median run of `slower` takes as that of `faster`."""
    return median_of(slower, unit) / median_of(faster, unit)


def summary(samples: Sequence[Sample]) -> dict[str, float | int]:
    """Medians and spread of some runs, as a table or a record takes them."""
    walls = [sample.wall_s for sample in samples]
    return {
        "runs": len(samples),
        "wall_s": median(walls),
        "cpu_s": median_of(samples, "cpu_s"),
        "fastest_s": min(walls),
        "slowest_s": max(walls),
    }


def machine() -> dict[str, object]:
    """The hardware a figure was made on, and how busy it was."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of the distributions in `packages`; what is missing says so."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit measured, with `+` where tracked files differ from it; "unknown" without git."""
    try:
        return _git("rev-parse", "--short=12", "HEAD") + (
            "+" if _git("diff", "HEAD", "--stat") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def save(name: str, record: Mapping[str, object], *, folder: Path = RESULTS) -> Path:
    """Write a result as `<folder>/<UTC date and time>-<name>.json`, with machine and commit."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d-%H%M%S}-{name}.json"
    header = {
        "benchmark": name,
        "date": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
    }
    path.write_text(json.dumps(header | dict(record), indent=1) + "\n")
    return path


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows as a Markdown table; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
