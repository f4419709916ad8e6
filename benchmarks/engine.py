"""Engine throughput on the CPU, beside every peer, in one run.

    python -m benchmarks.engine                                      # Llama, float32, one thread
    python -m benchmarks.engine --backbone gemma2 --dtype bfloat16 --threads 2
    python -m benchmarks.engine --quick                              # under two minutes
    python -m benchmarks.engine --tiny                               # seconds: does it run at all?

One table for each backbone, dtype and number of threads. All peers get the same token ids; the
clock runs from ids to scores. With one thread the cost is CPU seconds, with more it is wall
seconds.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, get_args

from benchmarks.checkpoints import SMALL, TINY, Backbone, Turns, Written, write_checkpoint
from benchmarks.measure import ROOT, Sample, Unit, interleave, median_of, save, summary, table
from benchmarks.peers import CEILINGS, LOOP, OURS, PEERS, Peer
from benchmarks.peers.process import PeerFailed, PeerProcess
from benchmarks.peers.protocol import Batch, Settings
from benchmarks.workloads import QUICK_ANSWERS, QUICK_ROWS, ROWS, Shape, Workload, load, texts
from rewardserve.settings import Dtype

REPEATS: Final = 3
BUDGET_S: Final = 20.0
"""No further run of a peer on a shape once its runs took that long; slow peers run fewer times."""
WARM_UP_SEQUENCES: Final = 4


@dataclass(frozen=True, slots=True)
class Setup:
    """What one table is about."""

    backbone: Backbone
    dtype: Dtype
    threads: int

    @property
    def unit(self) -> Unit:
        """The clock that counts."""
        return "cpu_s" if self.threads == 1 else "wall_s"


@dataclass(slots=True)
class Measured:
    """One shape, all peers."""

    workload: Workload
    tokens: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each peer's latest outcome."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables and keep each as a dated file."""
    options = _options(arguments)
    workloads = [_workload(shape, options) for shape in options.shape]
    peers = [peer for peer in PEERS if peer.name in options.peer]
    for setup in _setups(options):
        folder = options.checkpoints / f"{setup.backbone}-{'tiny' if options.tiny else 'small'}"
        size = TINY if options.tiny else SMALL
        written = write_checkpoint(folder, setup.backbone, size, texts(workloads))
        repeats = 1 if options.quick else REPEATS
        record = measure(setup, written, workloads, peers, repeats=repeats)
        print(report(record), flush=True)
        if options.results:
            name = f"engine-{setup.backbone}-{setup.dtype}-{setup.threads}-threads"
            print(f"\nkept in {save(name, record, folder=options.results)}\n", flush=True)
    return 0


def _workload(shape: Shape, options: argparse.Namespace) -> Workload:
    if options.quick or options.tiny:
        return load(shape, QUICK_ROWS[shape], most_answers=QUICK_ANSWERS, tiny=options.tiny)
    return load(shape, ROWS[shape])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--shape", nargs="+", choices=get_args(Shape), default=get_args(Shape))
    parser.add_argument("--backbone", nargs="+", choices=get_args(Backbone), default=["llama"])
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="few prompts, one run of each peer")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and generated text")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=ROOT / "build" / "benchmarks",
        help="where models are written; vLLM keeps what it compiled for a place",
    )
    parser.add_argument("--results", type=Path, help="keep each table's figures in this folder")
    return parser.parse_args(arguments)


def _setups(options: argparse.Namespace) -> Iterator[Setup]:
    for threads in options.threads:
        for backbone in options.backbone:
            for dtype in options.dtype:
                yield Setup(backbone, dtype, threads)


def measure(
    setup: Setup,
    written: Written,
    workloads: Sequence[Workload],
    peers: Sequence[Peer],
    *,
    repeats: int,
    start: Callable[[Peer, Settings], PeerProcess] = PeerProcess,
) -> dict[str, Any]:
    """The record of one table: every peer on every workload."""
    absent = {peer.name: reason for peer in peers if (reason := peer.missing())}
    with ExitStack() as stack:
        settings = Settings(str(written.folder), setup.dtype, setup.threads)
        processes = [
            stack.enter_context(start(peer, replace(settings, way=peer.way)))
            for peer in peers
            if peer.name not in absent
        ]
        running, versions = _ready(processes, absent)
        shapes = [
            _measure_shape(written, workload, running, absent, repeats) for workload in workloads
        ]
    return {
        "setup": asdict(setup) | {"counted": setup.unit},
        "layer_parameters": written.layer_parameters,
        "versions": versions,
        "absent": absent,
        "rows": [row for shape in shapes for row in _rows(setup, written, shape)],
    }


def _ready(
    processes: Sequence[PeerProcess], absent: dict[str, str]
) -> tuple[dict[str, PeerProcess], dict[str, dict[str, str]]]:
    """The peers that load, and their versions; the others go to `absent`."""
    running, versions = {}, {}
    for process in processes:
        try:
            versions[process.name] = process.ready()
            running[process.name] = process
        except PeerFailed as failure:
            absent[failure.peer] = f"failed to load: {failure.reason}"
    return running, versions


def _measure_shape(
    written: Written,
    workload: Workload,
    running: dict[str, PeerProcess],
    absent: dict[str, str],
    repeats: int,
) -> Measured:
    """Every running peer on one workload. A peer that fails is out, and the others start again."""
    batch = tokenised(workload, written)
    measured = Measured(workload, sum(map(len, batch.sequences)))
    with tempfile.TemporaryDirectory() as folder:
        path = _written(Path(folder) / "batch.json", batch)
        first = Batch(batch.sequences[:WARM_UP_SEQUENCES], batch.pairs[:WARM_UP_SEQUENCES])
        warm_up = _written(Path(folder) / "warm_up.json", first)
        while True:
            try:
                for process in running.values():
                    process.score(warm_up)
                contenders = {
                    name: _contender(process, path, measured) for name, process in running.items()
                }
                measured.samples = interleave(contenders, repeats=repeats, budget_s=BUDGET_S)
            except PeerFailed as failure:
                absent[failure.peer] = f"failed on {workload.shape}: {failure.reason}"
                del running[failure.peer]
            else:
                return measured


def _written(path: Path, batch: Batch) -> Path:
    path.write_text(json.dumps(asdict(batch)))
    return path


def _contender(process: PeerProcess, batch: Path, measured: Measured) -> Callable[[], Sample]:
    def run() -> Sample:
        answer = process.score(batch)
        measured.answers[process.name] = answer
        return Sample(answer["wall_s"], answer["cpu_s"])

    return run


def tokenised(workload: Workload, written: Written) -> Batch:
    """The conversations in the model's template, with exactly one BOS."""
    tokenizer = written.tokenizer
    rendered = [
        str(tokenizer.apply_chat_template(conversation, tokenize=False))
        for conversation in workload.conversations
    ]
    return Batch(
        sequences=tokenizer(rendered, add_special_tokens=False)["input_ids"],
        pairs=[_pair(text.removeprefix(written.turns.bos), written.turns) for text in rendered],
    )


def _pair(text: str, turns: Turns) -> tuple[str, str]:
    """Text before the last turn, and the last turn. A special token at the cut keeps the ids."""
    prompt, mark, response = text.rpartition(turns.marks[0])
    return prompt, mark + response


def _rows(setup: Setup, written: Written, measured: Measured) -> Iterator[dict[str, Any]]:
    seconds = {name: median_of(samples, setup.unit) for name, samples in measured.samples.items()}
    rates = {name: measured.answers[name]["computed_tokens"] / seconds[name] for name in seconds}
    for name, samples in measured.samples.items():
        yield {
            "shape": measured.workload.shape,
            "prompts": measured.workload.prompts,
            "conversations": len(measured.workload.conversations),
            "text": measured.workload.origin,
            "tokens": measured.tokens,
            "peer": name,
            "computed_tokens": measured.answers[name]["computed_tokens"],
            **summary(samples),
            "tokens_per_s": None if name in CEILINGS else measured.tokens / seconds[name],
            "gflops": 2 * written.layer_parameters * rates[name] / 1e9,
            "efficiency": {
                ceiling: rates[name] / rates[ceiling] for ceiling in CEILINGS if ceiling in rates
            },
            "ours_is": _ours_is(name, seconds),
            "difference": _difference(measured.answers[name], measured.answers.get(LOOP.name)),
        }


def _ours_is(name: str, seconds: dict[str, float]) -> float | None:
    """How many times as fast as this peer we are: the ratio of the medians."""
    if OURS.name not in seconds or name in {OURS.name, *CEILINGS}:
        return None
    return seconds[name] / seconds[OURS.name]


def _difference(answer: dict[str, Any], reference: dict[str, Any] | None) -> float | None:
    """Largest difference of a score from the card's loop in the same dtype."""
    if reference is None or not answer["scores"]:
        return None
    pairs = zip(answer["scores"], reference["scores"], strict=True)
    return max(float(abs(score - expected)) for score, expected in pairs)


def report(record: dict[str, Any]) -> str:
    """One table's figures as Markdown, those who are absent with the reason."""
    setup, parameters = record["setup"], record["layer_parameters"]
    clock = "CPU seconds" if setup["counted"] == "cpu_s" else "wall seconds"
    lines = [
        f"### {setup['backbone']}, {setup['dtype']}, {setup['threads']} thread(s), {clock}",
        f"\n{parameters / 1e6:.1f} million parameters outside the embedding. "
        "Tokens are counted before prefix sharing.",
    ]
    for shape, rows in groupby(record["rows"], key=itemgetter("shape")):
        shown = list(rows)
        lines.append(
            f"\n**{shape}**: {shown[0]['prompts']} prompts, {shown[0]['conversations']} "
            f"conversations, {shown[0]['tokens']:,} tokens, {shown[0]['text']} text\n"
        )
        lines.append(table([_printed(row) for row in shown]))
    lines += ["", *(f"- {name}: {reason}" for name, reason in record["absent"].items())]
    return "\n".join(lines)


def _printed(row: dict[str, Any]) -> dict[str, object]:
    return {
        "peer": row["peer"],
        "runs": row["runs"],
        "tokens/s": row["tokens_per_s"],
        "computed tokens": row["computed_tokens"],
        "GFLOP/s": row["gflops"],
        **{CEILINGS[ceiling]: share for ceiling, share in row["efficiency"].items()},
        "ours is faster by": row["ours_is"],
        "max difference": row["difference"],
        "spread": f"{row['fastest_s']:.3g} to {row['slowest_s']:.3g} s",
    }


if __name__ == "__main__":
    sys.exit(main())
