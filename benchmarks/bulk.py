"""What the way from Parquet to Parquet costs: the bulk job beside its own scorer, in one run.

    python -m benchmarks.bulk            # a quarter of an hour: minutes of work for each
    python -m benchmarks.bulk --quick    # under two minutes in all: shows that it runs

One copy of one model, on one thread, on the same corpus of pairs, in turns:

- `scorer`: the conversations in memory, given to the scorer at once; nothing is read or written.
- `bulk`: `rewardserve score` from Parquet to Parquet through Ray Data, with its own unit size. Ray
  itself is up already; starting the actor and loading the model count.
- `ten_units`: the same in ten parts, once. Prompts that come back in another part are computed
  again there.
- `script`: what people write: read everything, score pair by pair, write at the end; once, on the
  first fifth of the corpus.

Beside each bulk run stands what its rate is made of: seconds before the first forward; `busy`, the
share of the time from the first forward to the last in which the model was at work; the forwards'
CPU seconds and their computed tokens against the scorer's. A busy machine moves the last two least.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

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
from rewardserve.batch.units import UNIT_ROWS
from rewardserve.engine.scorer import ScoredBatch, Scorer, load_scorer
from rewardserve.families.base import Encoded

PAIRS: Final = 600
QUICK_PAIRS: Final = 60
WARM_UP_PAIRS: Final = 20
REPEATS: Final = 2
SCRIPT_SHARE: Final = 5
"""The script is given one pair in so many: it is no bound, and a run of it tells enough."""
UNITS: Final = 10
"""Of the run in small parts: what a kill would cost at most is a tenth."""


class Forward(NamedTuple):
    """One call of a scorer."""

    start: float
    end: float
    cpu_s: float
    computed_tokens: int


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
        forward = Forward(start, time.perf_counter(), spent, scored.computed_tokens)
        with self._notes.open("a") as notes:
            notes.write(json.dumps(forward) + "\n")
        return scored


def load_watched(notes: Path, model: BulkModel) -> Watched:
    """What the bulk job's actor holds here."""
    return Watched(load_scorer(model.settings.source), notes)


@dataclass(frozen=True, slots=True)
class Forwards:
    """When a model was at work in one run, in order."""

    started: float
    """The run's clock."""
    calls: list[Forward]

    @classmethod
    def noted(cls, notes: Path, started: float) -> "Forwards":
        """By a `Watched`."""
        lines = notes.read_text().splitlines()
        return cls(started, [Forward(*json.loads(line)) for line in lines])

    @property
    def before_s(self) -> float:
        """Seconds until the first call."""
        return self.calls[0].start - self.started

    @property
    def busy(self) -> float:
        """Share of the time between the first start and the last end."""
        at_work = sum(call.end - call.start for call in self.calls)
        return at_work / (self.calls[-1].end - self.calls[0].start)

    @property
    def cpu_s(self) -> float:
        """Of all of them."""
        return sum(call.cpu_s for call in self.calls)

    @property
    def computed_tokens(self) -> int:
        """After prefix sharing."""
        return sum(call.computed_tokens for call in self.calls)


@dataclass(slots=True)
class Contest:
    """One model, one corpus, three ways."""

    model: Path
    corpus: Path
    pairs: list[Any]
    scorer: Scorer
    tokens: int = 0
    script_tokens: int = 0
    forwards: dict[str, list[Forwards]] = field(default_factory=lambda: defaultdict(list))
    """Of each run, by who ran."""

    def scorer_alone(self) -> Sample:
        """Everything in one call."""
        sides = [side for pair in self.pairs for side in pair]
        with tempfile.TemporaryDirectory() as folder:
            notes, started = Path(folder) / "forwards", time.perf_counter()
            watched = Watched(self.scorer, notes)
            batch, sample = timed(lambda: watched.score_encoded(list(map(watched.encode, sides))))
            self.forwards["scorer"].append(Forwards.noted(notes, started))
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
        return self._job("bulk", UNIT_ROWS)

    def ten_units(self) -> Sample:
        """The same in small parts."""
        return self._job("ten_units", -(-len(self.pairs) // UNITS))

    def _job(self, who: str, unit_rows: int) -> Sample:
        settings = BulkSettings(models=resolve_models(str(self.model)), unit_rows=unit_rows)
        with tempfile.TemporaryDirectory() as folder:
            notes, started = Path(folder) / "forwards", time.perf_counter()
            _, sample = timed(lambda: self._score(Path(folder) / "out", settings, notes))
            self.forwards[who].append(Forwards.noted(notes, started))
        return sample

    def _score(self, out: Path, settings: BulkSettings, notes: Path) -> None:
        with open_run([str(self.corpus)], str(out), settings) as run:
            for _ in score_missing(run, actors=1, load=partial(load_watched, notes)):
                pass

    def _script(self) -> None:
        table = pq.read_table(self.corpus).slice(0, -(-len(self.pairs) // SCRIPT_SHARE))
        rewards = [self.scorer.score([r["chosen"], r["rejected"]]) for r in table.to_pylist()]
        self.script_tokens = sum(reward.tokens for each in rewards for reward in each)
        for side, name in enumerate(("chosen_score", "rejected_score")):
            table = table.append_column(name, pa.array([each[side].score for each in rewards]))
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(table, Path(folder) / "scored.parquet")


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
        samples["ten_units"] = [contest.ten_units()]
        samples["script"] = [contest.script()]
        ray.shutdown()
    record = _record(contest, samples)
    print(table(record["rows"]))
    for who, parts in record["parts"].items():
        print(f"\n{who} keeps {parts['ratio']:.1%} of the scorer's tokens/s: ", end="")
        print(f"{parts['before_s']:.1f} s until the first forward, then busy {parts['busy']:.1%};")
        print(f"{parts['cpu_ratio']:.3f} of the scorer's CPU seconds in forwards, ", end="")
        print(f"{parts['computed_ratio']:.3f} of its computed tokens")
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
    rows = [
        {"who": name, "tokens": tokens[name], "tokens_per_s": rates[name], **summary(runs)}
        for name, runs in samples.items()
    ]
    return {
        "pairs": len(contest.pairs),
        "tokens": contest.tokens,
        "rows": rows,
        "parts": {
            who: {"ratio": rates[who] / rates["scorer"]}
            | _parts(contest.forwards[who], contest.forwards["scorer"])
            for who in ("bulk", "ten_units")
        },
        "versions": versions(["ray", "torch", "transformers", "pyarrow"]),
    }


def _parts(runs: list[Forwards], alone: list[Forwards]) -> dict[str, float]:
    """What the rate of some bulk runs is made of, beside the scorer's."""
    computed = runs[0].computed_tokens
    return {
        "before_s": median(run.before_s for run in runs),
        "busy": median(run.busy for run in runs),
        "cpu_ratio": median(run.cpu_s for run in runs) / median(run.cpu_s for run in alone),
        "computed_tokens": computed,
        "computed_ratio": computed / alone[0].computed_tokens,
    }


if __name__ == "__main__":
    raise SystemExit(main())
