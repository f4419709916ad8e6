"""The whole system on this machine's CPU: seven tiny models served, bulk-scored and asked.

    make demo                                            the zoo's own corpus
    make demo DATA=../shared/data/gsm8k_best_of_4.parquet   a corpus of yours

Starts a cluster of the zoo's models, scores a Parquet file with three of them and their ensemble,
picks the best of four responses through the client, prints one table, and ends what it started.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from rewardserve_client import RewardClient

FOLDER = Path(__file__).parents[1] / ".demo"
ZOO = FOLDER / "zoo"
COMMAND = str(Path(sys.executable).with_name("rewardserve"))
NAMES = ("armorm", "urm", "skywork-llama-8b", "trio")
"""Three models and the ensemble of the three."""
PROMPTS = 60
"""Of the zoo's held-out candidates, for best of 4 through the client."""

console = Console(soft_wrap=True)


def main() -> None:
    """Run the demo on the file named on the command line, or on the zoo's own corpus."""
    started = time.monotonic()
    given = sys.argv[1:2]
    with served_zoo() as address:
        corpus = Path(given[0]) if given else ZOO / "corpus" / "pairs-heldout.parquet"
        bulk = bulk_scored(corpus)
        best_of_4, first_of_4 = best_of_n_accuracies(address)
    print_table(corpus, bulk, best_of_4, first_of_4)
    console.print(
        f"everything is ended; {time.monotonic() - started:.0f} s in all", highlight=False
    )


@contextmanager
def served_zoo() -> Iterator[str]:
    """The address of a cluster that serves the zoo and ends with the block."""
    port = free_port()
    process = subprocess.Popen(
        [COMMAND, "up", "--demo", "--zoo", str(ZOO), "--port", str(port)], stderr=subprocess.PIPE
    )
    try:
        wait_until_ready(process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(process: "subprocess.Popen[bytes]") -> None:
    """Pass on what the cluster says until it is ready."""
    said = []
    for raw in process.stderr or ():
        line = raw.decode().rstrip()
        said.append(line)
        if " up (" in line or line.startswith(("ready", "writing")):
            console.print(f"  {line}", highlight=False)
        if line.startswith("ready"):
            return
    raise SystemExit("the cluster did not start:\n" + "\n".join(said))


def bulk_scored(corpus: Path) -> dict[str, Any]:
    """The summary of scoring `corpus` with three models and their ensemble."""
    console.print(f"scoring {corpus} in bulk with {', '.join(NAMES)}", highlight=False)
    out = FOLDER / "scored" / corpus.stem
    options = ["--config", str(ZOO / "cluster.yaml"), "--model", ",".join(NAMES), "--json"]
    run = subprocess.run(
        [COMMAND, "score", str(corpus), "--out", str(out), "--overwrite", *options],
        stdout=subprocess.PIPE,
        check=False,
    )
    if run.returncode not in {0, 3}:
        raise SystemExit(f"bulk scoring failed with exit code {run.returncode}")
    summary: dict[str, Any] = json.loads(run.stdout)
    console.print(
        f"  {summary['rows']:,} rows at {summary['rows_per_s']:,.0f} rows/s, "
        f"{summary['tokens']:,} tokens of which {summary['computed_tokens']:,} were computed",
        highlight=False,
    )
    return summary


def best_of_n_accuracies(address: str) -> tuple[dict[str, float], float]:
    """How often the best of 4 responses is right, by name; and how often the first one is."""
    console.print("picking the best of 4 responses through the client", highlight=False)
    rows = pq.read_table(ZOO / "corpus" / "candidates-heldout.parquet").slice(0, PROMPTS)
    candidates = rows.to_pylist()
    with RewardClient(address) as client:
        picked = {name: share_right(client, name, candidates) for name in NAMES}
    first = sum(row["labels"][0] for row in candidates) / len(candidates)
    return picked, first


def share_right(client: RewardClient, name: str, rows: Sequence[dict[str, Any]]) -> float:
    right = 0
    for row in rows:
        ranking = client.best_of_n(row["prompt"], row["responses"][:4], model=name)
        right += row["labels"][ranking.order[0]]
    return right / len(rows)


def print_table(
    corpus: Path, bulk: dict[str, Any], best_of_4: dict[str, float], first_of_4: float
) -> None:
    table = Table(
        title=f"bulk scores of {corpus.name}, best of 4 through the client",
        caption=f"best of 4: on {PROMPTS} held-out prompts of the zoo; the first response is "
        f"right for {first_of_4:.1%} of them",
    )
    for heading in ("", "rows", "accuracy", "by chance", "mean score", "best of 4"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name in NAMES:
        model = bulk["models"][name]
        judged = model["accuracy"].get("all")
        accuracy = (judged["accuracy"], judged["by_chance"]) if judged else (None, None)
        table.add_row(
            name,
            f"{bulk['rows']:,}",
            *("" if rate is None else f"{rate:.1%}" for rate in accuracy),
            f"{model['scores']['mean']:.3f}",
            f"{best_of_4[name]:.1%}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
