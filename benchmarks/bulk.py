"""What the way from Parquet to Parquet costs: the bulk job beside its own scorer, in one run.

    python -m benchmarks.bulk            # about ten minutes: minutes of work for each
    python -m benchmarks.bulk --quick    # under two minutes in all: shows that it runs

One copy of one model, on one thread, on the same corpus of pairs, in turns:

- `scorer`: the conversations in memory, given to the scorer at once; nothing is read or written.
- `bulk`: `rewardserve score` from Parquet to Parquet through Ray Data. Ray itself is up already;
  starting the actor and loading the model count, and are left out of `steady`, which is the rate
  from the first finished unit to the last.
- `script`: what people write: read everything, score pair by pair, write at the end; once, on the
  first fifth of the corpus.

`busy` is the share of the bulk run's time, from its first forward to its last, in which the model
was at work: what reading, tokenising, writing and Ray leave of it. `forward_ratio` compares CPU
seconds within the forwards alone: what units and a process of Ray's cost the model itself. A busy
machine moves these two least, so they are to be trusted where the clock is not.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from benchmarks.checkpoints import SMALL, TINY, write_checkpoint
from benchmarks.measure import Sample, interleave, median_of, save, summary, table, timed, versions
from benchmarks.workloads import load, texts
from rewardserve.batch.job import open_run, score_missing
from rewardserve.batch.models import resolve_models
from rewardserve.batch.settings import BulkModel, BulkSettings
from rewardserve.engine.scorer import ScoredBatch, Scorer, load_scorer
from rewardserve.families.base import Encoded

PAIRS: Final = 420
QUICK_PAIRS: Final = 60
WARM_UP_PAIRS: Final = 20
REPEATS: Final = 2
SCRIPT_SHARE: Final = 5
"""The script is given one pair in so many: it is no bound, and a run of it tells enough."""
UNITS: Final = 10
"""Of each bulk run: what a kill would cost at most is a tenth."""


class Watched:
    """A scorer that notes when its model is at work."""

    def __init__(self, scorer: Scorer, notes: Path) -> None:
        self._scorer, self._notes = scorer, notes
        self.encode = scorer.encode

    def score_encoded(self, batch: Sequence[Encoded]) -> ScoredBatch:
        """As the scorer's own."""
        start, cpu = time.perf_counter(), time.thread_time()
        scored = self._scorer.score_encoded(batch)
        spent = time.thread_time() - cpu
        with self._notes.open("a") as notes:
            notes.write(f"{start} {time.perf_counter()} {spent}\n")
        return scored


def load_watched(notes: Path, model: BulkModel) -> Watched:
    """What the bulk job's actor holds here."""
    return Watched(load_scorer(model.settings.source), notes)


@dataclass(frozen=True, slots=True)
class Forwards:
    """When a model was at work, in order."""

    spans: list[tuple[float, float, float]]
    """Start, end, CPU seconds of each."""

    @classmethod
    def noted(cls, notes: Path) -> "Forwards":
        """By a `Watched`."""
        lines = notes.read_text().splitlines()
        return cls([tuple(map(float, line.split())) for line in lines])  # type: ignore[misc]

    @property
    def busy(self) -> float:
        """Share of the time between the first start and the last end."""
        return sum(end - start for start, end, _ in self.spans) / (
            self.spans[-1][1] - self.spans[0][0]
        )

    @property
    def cpu_s(self) -> float:
        """Of all of them."""
        return sum(cpu for _, _, cpu in self.spans)


@dataclass(slots=True)
class Contest:
    """One model, one corpus, three ways."""

    model: Path
    corpus: Path
    pairs: list[Any]
    scorer: Scorer
    tokens: int = 0
    script_tokens: int = 0
    steady: list[float] = field(default_factory=list)
    """Tokens a second of each bulk run, its start left out."""
    alone: list[Forwards] = field(default_factory=list)
    bulks: list[Forwards] = field(default_factory=list)

    def scorer_alone(self) -> Sample:
        """Everything in one call."""
        sides = [side for pair in self.pairs for side in pair]
        with tempfile.TemporaryDirectory() as folder:
            notes = Path(folder) / "forwards"
            watched = Watched(self.scorer, notes)
            batch, sample = timed(lambda: watched.score_encoded(list(map(watched.encode, sides))))
            self.alone.append(Forwards.noted(notes))
        self.tokens = batch.tokens
        return sample

    def warm_up(self) -> None:
        """The first forwards pay for memory that later ones have."""
        self.scorer.score([side for pair in self.pairs[:WARM_UP_PAIRS] for side in pair])

    def script(self) -> Sample:
        """Pair by pair, written at the end."""
        _, sample = timed(self._script)
        return sample

    def bulk(self) -> Sample:
        """The whole job, in a folder of its own."""
        _, sample = timed(self._bulk)
        return sample

    def _script(self) -> None:
        table = pq.read_table(self.corpus).slice(0, -(-len(self.pairs) // SCRIPT_SHARE))
        rewards = [self.scorer.score([r["chosen"], r["rejected"]]) for r in table.to_pylist()]
        self.script_tokens = sum(reward.tokens for each in rewards for reward in each)
        for side, name in enumerate(("chosen_score", "rejected_score")):
            table = table.append_column(name, pa.array([each[side].score for each in rewards]))
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(table, Path(folder) / "scored.parquet")

    def _bulk(self) -> None:
        models = resolve_models(str(self.model))
        settings = BulkSettings(models=models, unit_rows=-(-len(self.pairs) // UNITS))
        ends: list[tuple[float, int]] = []
        with (
            tempfile.TemporaryDirectory() as folder,
            open_run([str(self.corpus)], folder, settings) as run,
        ):
            notes = Path(folder) / "_forwards"
            units = score_missing(run, actors=1, load=partial(load_watched, notes))
            ends.extend((time.perf_counter(), unit.tokens) for unit in units)
            self.bulks.append(Forwards.noted(notes))
        first, last = ends[0][0], ends[-1][0]
        self.steady.append(sum(tokens for _, tokens in ends[1:]) / (last - first))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and keep it as a dated file."""
    options = _options(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(
        prefix="bulk-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        contest = _contest(Path(folder), options)
        contest.warm_up()
        contenders = {"scorer": contest.scorer_alone, "bulk": contest.bulk}
        samples = interleave(contenders, repeats=1 if options.quick else REPEATS)
        samples["script"] = [contest.script()]
        ray.shutdown()
    record = _record(contest, samples)
    print(table(record["rows"]))
    print(f"\nbulk keeps {record['ratio']:.1%} of the scorer's tokens/s")
    print(f"and {record['steady_ratio']:.1%} once it runs; ", end="")
    print(f"its model was busy {record['busy']:.1%} of the time")
    print(f"its forwards took {1 / record['forward_ratio']:.1%} of the scorer's CPU seconds")
    if options.results:
        print(f"\nkept in {save('bulk', record, folder=options.results)}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pairs", type=int, help="rows of the corpus")
    parser.add_argument("--quick", action="store_true", help="few pairs, one run of each")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: overhead at its worst")
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    return parser.parse_args(arguments)


def _contest(folder: Path, options: argparse.Namespace) -> Contest:
    workload = load("alpaca_pairs", options.pairs or (QUICK_PAIRS if options.quick else PAIRS))
    size = TINY if options.tiny else SMALL
    written = write_checkpoint(folder / "model", "llama", size, texts([workload]))
    sides = workload.conversations
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    rows = [{"chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    pq.write_table(pa.Table.from_pylist(rows), folder / "corpus.parquet")
    scorer = load_scorer(str(written.folder))
    return Contest(written.folder, folder / "corpus.parquet", pairs, scorer)


def _record(contest: Contest, samples: dict[str, list[Sample]]) -> dict[str, Any]:
    tokens = dict.fromkeys(samples, contest.tokens) | {"script": contest.script_tokens}
    rates = {name: tokens[name] / median_of(runs) for name, runs in samples.items()}
    steady = median(contest.steady)
    alone = median(each.cpu_s for each in contest.alone)
    rows = [
        {"who": name, "tokens": tokens[name], "tokens_per_s": rates[name], **summary(runs)}
        for name, runs in samples.items()
    ]
    return {
        "pairs": len(contest.pairs),
        "tokens": contest.tokens,
        "rows": rows,
        "ratio": rates["bulk"] / rates["scorer"],
        "steady_tokens_per_s": steady,
        "busy": median(each.busy for each in contest.bulks),
        "forward_ratio": alone / median(each.cpu_s for each in contest.bulks),
        "steady_ratio": steady / rates["scorer"],
        "versions": versions(["ray", "torch", "transformers", "pyarrow"]),
    }


if __name__ == "__main__":
    raise SystemExit(main())
