"""Real model sizes on a CUDA device: random weights made there, bfloat16, beside transformers.

    python -m benchmarks.gpu --results benchmarks/results   # 27B needs 80 GB
    python -m benchmarks.gpu --model llama-3.1-8b
    python -m benchmarks.gpu --tiny                   # on the CPU, in seconds: does it run at all?

Figures are printed, and kept, as they are made, within `--minutes`; what fails or would take too
long says so and stops nothing else.

MFU is 2 x parameters outside the embedding x computed tokens / seconds, over the data sheet's dense
bfloat16 rate. Products inside attention are not counted; the last layer is counted whole, though
rewardserve computes most of it at the readouts alone. Agreement is measured apart, on two layers of
the same width in float32 and bfloat16, against eager transformers in float32.
"""

import argparse
import copy
import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from transformers import PreTrainedConfig

from benchmarks.gpu_contenders import (
    MODELS,
    PAD,
    TINY_MODELS,
    Contender,
    Ours,
    Stock,
    random_model,
)
from benchmarks.measure import Sample, interleave, median_of, save, summary, table, timed, versions
from benchmarks.peers.protocol import Outcome
from rewardserve.engine.backends import available_backends

Result = TypeVar("Result")
Row = dict[str, Any]

REPEATS: Final = 3
BUDGET_S: Final = 6.0
"""Of one contender on one kind of work; its first run may take longer."""
MOST_RUN_S: Final = 30.0
"""A contender whose one run would take longer is left out."""
WARM_UP: Final = 8
"""Sequences of the first, unmeasured run, which compiles what has to be."""
PEAK_TFLOPS: Final = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312}
"""Dense bfloat16 rates of the data sheets, by a part of the device's name; the first that fits."""
PACKAGES: Final = ("rewardserve", "torch", "transformers", "triton", "flash-attn")


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts with several answers each, as random token ids."""

    name: str
    prompts: int
    answers: int
    prompt_tokens: int
    answer_tokens: int
    """At most; answers are half as long or longer."""

    def sequences(self, vocabulary: int) -> list[list[int]]:
        """The same every time."""
        chance = np.random.default_rng(0)
        rows = []
        for _ in range(self.prompts):
            prompt = chance.integers(PAD + 1, vocabulary, self.prompt_tokens)
            for _ in range(self.answers):
                length = chance.integers(self.answer_tokens // 2, self.answer_tokens + 1)
                answer = chance.integers(PAD + 1, vocabulary, length)
                rows.append([*prompt.tolist(), *answer.tolist()])
        return rows


WORK: Final = (
    Work("pairs", prompts=32, answers=2, prompt_tokens=300, answer_tokens=400),
    Work("best of 16", prompts=6, answers=16, prompt_tokens=200, answer_tokens=400),
    Work("long prompt x 16", prompts=8, answers=16, prompt_tokens=1000, answer_tokens=150),
)
TINY_WORK: Final = (Work("pairs", prompts=3, answers=2, prompt_tokens=30, answer_tokens=20),)
SMALL_CASE: Final = Work("small case", prompts=2, answers=3, prompt_tokens=120, answer_tokens=80)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and keep the figures where asked."""
    options = _options(arguments)
    models = TINY_MODELS if options.tiny else {name: MODELS[name] for name in options.model}
    if not options.tiny and not torch.cuda.is_available():
        rows = [{"model": name, "figures": "not measured: no CUDA device here"} for name in models]
        print(table(rows))
        return 0
    device = "cpu" if options.tiny else "cuda"
    record: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "measured_tflops": square_product_tflops(device, 256 if options.tiny else 8192),
        "versions": versions(PACKAGES),
        "agreement": [],
        "speed": [],
    }
    ends = time.monotonic() + 60 * options.minutes
    kept: Path | None = None
    for part, rows in figures(models, device, TINY_WORK if options.tiny else WORK, ends):
        record[part] += rows
        print(report(record, part, rows), flush=True)
        if options.results:
            kept = _kept(record, options.results, kept)
    print(f"\nkept in {kept}" if kept else "")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--minutes", type=float, default=7, help="start nothing after so many")
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    return parser.parse_args(arguments)


def _kept(record: Row, folder: Path, earlier: Path | None) -> Path:
    """The record so far, in place of the `earlier` one: whatever ends the run leaves a file."""
    path = save("gpu", record, folder=folder)
    if earlier not in {None, path}:
        earlier.unlink()
    return path


def square_product_tflops(device: str, size: int) -> float:
    """Rate of one large bfloat16 matrix product: what this very device reaches."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)

    def multiply() -> None:
        for _ in range(10):
            left @ right
        _wait(device)

    multiply()
    _, sample = timed(multiply)
    return 10 * 2 * size**3 / sample.wall_s / 1e12


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def figures(
    models: Mapping[str, Callable[[], PreTrainedConfig]],
    device: str,
    work: Sequence[Work],
    ends: float,
) -> Iterator[tuple[str, list[Row]]]:
    """Rows of the record's parts, as they are made: each model's agreement, then its speed."""
    for name, config in models.items():
        yield "agreement", agreement(name, config, device, ends)
        _release(device)
        yield from (("speed", rows) for rows in speed(name, config, device, work, ends))
        _release(device)


def _release(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Failed:
    """Why something gave no figure."""

    reason: str


def attempt(work: Callable[[], Result]) -> Result | Failed:
    """What `work` gives; a failure of one contender must not cost the others their figures."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whatever a kernel or compiler raises
        return Failed(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}")


def agreement(
    name: str, config: Callable[[], PreTrainedConfig], device: str, ends: float
) -> list[Row]:
    """Largest differences from eager float32 on two layers of the model's width."""
    model = f"{name}, 2 layers"
    if time.monotonic() > ends:
        return [{"model": model, "note": "not measured: out of time"}]
    exact = attempt(lambda: _shallow(config(), device))
    if isinstance(exact, Failed):
        return [{"model": model, "note": exact.reason}]
    sequences = SMALL_CASE.sequences(exact.config.vocab_size)
    reference = Stock(exact, "one at a time")(sequences).scores
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    # A model that is loaded in bfloat16 keeps its rotary frequencies in float32.
    rounded.base_model.rotary_emb = copy.deepcopy(exact.base_model.rotary_emb)
    makers: dict[str, Callable[[], Contender]] = {
        f"rewardserve {backend}, {str(made.dtype).removeprefix('torch.')}": partial(
            Ours, made, backend
        )
        for made in (exact, rounded)
        for backend in available_backends(torch.device(device), made.dtype)
    }
    makers["card's loop, bfloat16"] = partial(Stock, rounded, "one at a time")
    rows = []
    for contender, make in makers.items():
        outcome = attempt(partial(_made_and_run, make, sequences))
        if isinstance(outcome, Failed):
            figure: Row = {"note": outcome.reason}
        else:
            figure = {"max difference": _largest_difference(outcome.scores, reference)}
        rows.append({"model": model, "contender": contender} | figure)
    return rows


def _made_and_run(make: Callable[[], Contender], sequences: list[list[int]]) -> Outcome:
    return make()(sequences)


def _shallow(config: PreTrainedConfig, device: str) -> Any:
    config.num_hidden_layers = 2
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    model = random_model(config, device, torch.float32)
    model.set_attn_implementation("eager")
    return model


def _largest_difference(scores: list[float], reference: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(scores, reference, strict=True))


def speed(
    name: str,
    config: Callable[[], PreTrainedConfig],
    device: str,
    work: Sequence[Work],
    ends: float,
) -> Iterator[list[Row]]:
    """Every contender on every kind of work, one kind after the other."""
    if time.monotonic() > ends:
        yield [{"model": name, "note": "not measured: out of time"}]
        return
    model = attempt(lambda: random_model(config(), device, torch.bfloat16))
    if isinstance(model, Failed):
        yield [{"model": name, "note": model.reason}]
        return
    contenders: dict[str, Contender] = {
        "card's loop": Stock(model, "one at a time"),
        "padded batches of 8": Stock(model, "in arrival order"),
    }
    for backend in available_backends(torch.device(device), torch.bfloat16):
        ours = attempt(partial(Ours, model, backend))
        if isinstance(ours, Failed):
            yield [{"model": name, "contender": f"rewardserve {backend}", "note": ours.reason}]
        else:
            contenders[f"rewardserve {backend}"] = ours
    parameters = model.num_parameters() - model.get_input_embeddings().weight.numel()
    for kind in work:
        rows = _speed(contenders, kind.sequences(model.config.vocab_size), parameters, ends)
        yield [{"model": name, "work": kind.name} | row for row in rows]


def _speed(
    contenders: Mapping[str, Contender], sequences: list[list[int]], parameters: int, ends: float
) -> list[Row]:
    notes = {name: _why_not(score, sequences, ends) for name, score in contenders.items()}
    outcomes: dict[str, Outcome] = {}

    def run(name: str) -> Callable[[], Sample]:
        def once() -> Sample:
            # Scores are read back to the host, so the clock stops after the device has finished.
            measured = attempt(lambda: timed(lambda: contenders[name](sequences)))
            if isinstance(measured, Failed):
                notes[name] = measured.reason
                return Sample(math.inf, math.inf)
            outcomes[name], sample = measured
            return sample

        return once

    samples = interleave(
        {name: run(name) for name, note in notes.items() if note is None},
        repeats=REPEATS,
        budget_s=min(BUDGET_S, ends - time.monotonic()),
    )
    seconds = {name: median_of(runs) for name, runs in samples.items() if notes[name] is None}
    best = min(
        (taken for name, taken in seconds.items() if name.startswith("rewardserve")),
        default=math.nan,
    )
    rows: list[Row] = [
        {
            "contender": name,
            "tokens": sum(map(len, sequences)),
            "computed_tokens": outcomes[name].computed_tokens,
            **summary(samples[name]),
            "tokens_per_s": sum(map(len, sequences)) / taken,
            "pairs_per_s": len(sequences) / 2 / taken,
            "tflops": 2 * parameters * outcomes[name].computed_tokens / taken / 1e12,
            "ours_is": taken / best,
        }
        for name, taken in seconds.items()
    ]
    return rows + [
        {"contender": name, "note": note} for name, note in notes.items() if note is not None
    ]


def _why_not(score: Contender, sequences: list[list[int]], ends: float) -> str | None:
    """Warms a contender up, twice, the second time to see what a run will take."""
    if time.monotonic() > ends:
        return "not measured: out of time"
    first = sequences[:WARM_UP]
    measured = attempt(lambda: (score(first), timed(lambda: score(first)))[1])
    if isinstance(measured, Failed):
        return measured.reason
    expected = measured[1].wall_s * len(sequences) / len(first)
    if expected > MOST_RUN_S:
        return f"not measured: one run would take {expected:.0f} s"
    return None


def peak_tflops(device: str) -> float | None:
    """The data sheet's rate for a device's name, or None for one that is not listed."""
    return next((rate for part, rate in PEAK_TFLOPS.items() if part in device), None)


def report(record: Row, part: str, rows: list[Row]) -> str:
    """Some rows of one of the record's parts, as Markdown."""
    if part == "agreement":
        return f"\nLargest difference from eager float32, {record['device']}:\n\n{table(rows)}"
    peak = peak_tflops(record["device"])
    head = (
        f"\n{record['device']}, bfloat16; one large matrix product here: "
        f"{record['measured_tflops']:.3g} TFLOP/s; data sheet: {peak or 'not listed'}.\n"
    )
    printed = [_printed(row, peak, record["measured_tflops"]) for row in rows]
    return "\n".join([head, table(printed)])


def _printed(row: Row, peak: float | None, measured: float) -> Row:
    if "note" in row:
        return row
    return {
        "model": row["model"],
        "work": row["work"],
        "contender": row["contender"],
        "runs": row["runs"],
        "tokens/s": row["tokens_per_s"],
        "pairs/s": row["pairs_per_s"],
        "computed tokens": row["computed_tokens"],
        "MFU": None if peak is None else row["tflops"] / peak,
        "of a large product": row["tflops"] / measured,
        "ours is faster by": row["ours_is"],
    }


if __name__ == "__main__":
    sys.exit(main())
