"""Real model sizes on a CUDA device: random weights made there, bfloat16, beside transformers.

    python -m benchmarks.gpu                          # needs a CUDA device; 27B needs 120 GB
    python -m benchmarks.gpu --model llama-3.1-8b
    python -m benchmarks.gpu --tiny                   # on the CPU, in seconds: does it run at all?

MFU is 2 x parameters outside the embedding x computed tokens / seconds, over the data sheet's dense
bfloat16 rate; products inside attention are not counted. Agreement is measured apart, on two
layers of the same width in float32 and bfloat16, against eager transformers in float32.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    LlamaConfig,
    PreTrainedConfig,
)

from benchmarks.measure import Sample, interleave, median_of, save, summary, table, timed, versions
from benchmarks.peers.batches import chosen, padded
from benchmarks.peers.protocol import Outcome
from rewardserve.engine.backends import Backend, available_backends
from rewardserve.engine.scorer import Scorer
from rewardserve.families.base import Encoded
from rewardserve.families.linear import LinearHead
from rewardserve.families.loading import LoadedModel
from rewardserve.families.text import TextPolicy

REPEATS: Final = 3
BUDGET_S: Final = 30.0
PAD: Final = 0
ONE_SCORE: Final[dict[str, Any]] = {"num_labels": 1, "pad_token_id": PAD}

MODELS: Final[dict[str, Callable[[], PreTrainedConfig]]] = {
    "gemma-2-2b": lambda: _gemma2(2304, 26, 8, 4, 256, 9216, 256),
    "llama-3.1-8b": lambda: _llama(4096, 32, 32, 8, 14336, 128_257),
    "gemma-2-27b": lambda: _gemma2(4608, 46, 32, 16, 128, 36_864, 144),
}
TINY_MODELS: Final[dict[str, Callable[[], PreTrainedConfig]]] = {
    "tiny gemma-2": lambda: _gemma2(64, 3, 2, 1, 32, 128, 32, vocabulary=500),
    "tiny llama": lambda: _llama(64, 3, 2, 1, 128, 500),
}
PEAK_TFLOPS: Final = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312}
"""Dense bfloat16 rates of the data sheets, by a part of the device's name; the first that fits."""


def _llama(
    hidden: int, layers: int, heads: int, key_heads: int, intermediate: int, vocabulary: int
) -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        **ONE_SCORE,
    )


def _gemma2(
    hidden: int,
    layers: int,
    heads: int,
    key_heads: int,
    head_dim: int,
    intermediate: int,
    scalar: int,
    *,
    vocabulary: int = 256_000,
) -> PreTrainedConfig:
    return Gemma2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        query_pre_attn_scalar=scalar,
        vocab_size=vocabulary,
        **ONE_SCORE,
    )


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
    Work("pairs", prompts=64, answers=2, prompt_tokens=300, answer_tokens=400),
    Work("best of 16", prompts=8, answers=16, prompt_tokens=200, answer_tokens=400),
    Work("long prompt x 16", prompts=4, answers=16, prompt_tokens=1000, answer_tokens=150),
)
TINY_WORK: Final = (Work("pairs", prompts=3, answers=2, prompt_tokens=30, answer_tokens=20),)
SMALL_CASE: Final = Work("small case", prompts=2, answers=3, prompt_tokens=120, answer_tokens=80)


class Stock:
    """Plain transformers, in one of the ways `chosen` knows."""

    def __init__(self, model: nn.Module, way: str) -> None:
        self._model = model
        self._way = way

    @torch.inference_mode()
    def __call__(self, sequences: list[list[int]]) -> Outcome:
        scores = [0.0] * len(sequences)
        computed = 0
        device = next(self._model.parameters()).device
        for indices in chosen(self._way, [len(row) for row in sequences]):
            inputs = padded([sequences[index] for index in indices], PAD)
            computed += inputs["input_ids"].numel()
            moved = {name: value.to(device) for name, value in inputs.items()}
            logits = self._model(**moved, use_cache=False).logits[:, 0].float().tolist()
            for index, score in zip(indices, logits, strict=True):
                scores[index] = score
        return Outcome(scores, computed)


class Ours:
    """A `Scorer` around a copy of the stock model's weights, fed with token ids."""

    def __init__(self, model: Any, attention: Backend, *, pack_tokens: int) -> None:
        head = LinearHead(model.config.hidden_size)
        head.load_state_dict({"score.weight": model.score.weight.float()})
        backbone = copy.deepcopy(model.base_model)
        weight = model.score.weight
        loaded = LoadedModel(
            name="random",
            source="random",
            revision=None,
            family="linear",
            backbone=backbone,
            head=head.to(weight.device).requires_grad_(False),
            text=cast("TextPolicy", None),  # never asked: everything is token ids already
            max_tokens=8192,
            dtype=weight.dtype,
            device=weight.device,
        )
        self._scorer = Scorer(loaded, pack_tokens=pack_tokens, attention=attention)

    def __call__(self, sequences: list[list[int]]) -> Outcome:
        encoded = [Encoded(np.array(row, np.int32), (len(row) - 1,)) for row in sequences]
        scored = self._scorer.score_encoded(encoded)
        return Outcome([reward.score for reward in scored.rewards], scored.computed_tokens)


def random_model(config: PreTrainedConfig, device: str, dtype: torch.dtype) -> Any:
    """A reward model with random weights, made on the device; eager attention where it caps."""
    torch.manual_seed(0)
    capped = getattr(config, "attn_logit_softcapping", None)
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, attn_implementation="eager" if capped else "sdpa"
        )
    nn.init.normal_(model.score.weight, std=config.hidden_size**-0.5)
    return model.eval().requires_grad_(False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and keep the figures where asked."""
    options = _options(arguments)
    models = TINY_MODELS if options.tiny else {name: MODELS[name] for name in options.model}
    if not options.tiny and not torch.cuda.is_available():
        rows = [{"model": name, "figures": "not measured: no CUDA device here"} for name in models]
        print(table(rows))
        return 0
    device = "cpu" if options.tiny else "cuda"
    record = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "measured_tflops": square_product_tflops(device, 256 if options.tiny else 8192),
        "versions": versions(["rewardserve", "torch", "transformers"]),
        "agreement": [row for name in models for row in agreement(name, models[name], device)],
        "speed": [
            row
            for name in models
            for row in speed(name, models[name], device, TINY_WORK if options.tiny else WORK)
        ],
    }
    print(report(record))
    if options.results:
        print(f"\nkept in {save('gpu', record, folder=options.results)}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    return parser.parse_args(arguments)


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


def agreement(
    name: str, config: Callable[[], PreTrainedConfig], device: str
) -> list[dict[str, object]]:
    """Largest differences from eager float32 on two layers of the model's width."""
    shallow = config()
    shallow.num_hidden_layers = 2
    if hasattr(shallow, "layer_types"):
        shallow.layer_types = shallow.layer_types[:2] if shallow.layer_types else None
    exact = random_model(shallow, device, torch.float32)
    exact.set_attn_implementation("eager")
    sequences = SMALL_CASE.sequences(shallow.vocab_size)
    reference = Stock(exact, "one at a time")(sequences).scores
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    contenders: dict[str, Callable[[list[list[int]]], Outcome]] = {
        f"rewardserve {backend}, {dtype}": Ours(model, backend, pack_tokens=4096)
        for backend in available_backends(torch.device(device))
        for dtype, model in {"float32": exact, "bfloat16": rounded}.items()
        # flash-attn has no float32 kernel.
        if (backend, dtype) != ("flash", "float32")
    }
    contenders["card's loop, bfloat16"] = Stock(rounded, "one at a time")
    return [
        {
            "model": f"{name}, 2 layers",
            "contender": contender,
            "max difference": _largest_difference(score(sequences).scores, reference),
        }
        for contender, score in contenders.items()
    ]


def _largest_difference(scores: list[float], reference: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(scores, reference, strict=True))


def speed(
    name: str, config: Callable[[], PreTrainedConfig], device: str, work: Sequence[Work]
) -> list[dict[str, Any]]:
    """Every contender on every kind of work; a model that does not fit says so."""
    try:
        model = random_model(config(), device, torch.bfloat16)
        contenders: dict[str, Callable[[list[list[int]]], Outcome]] = {
            "card's loop": Stock(model, "one at a time"),
            "padded batches of 8": Stock(model, "in arrival order"),
        }
        for backend in available_backends(torch.device(device)):
            contenders[f"rewardserve {backend}"] = Ours(model, backend, pack_tokens=16_384)
        parameters = model.num_parameters() - model.get_input_embeddings().weight.numel()
        return [
            {"model": name, "work": kind.name} | row
            for kind in work
            for row in _speed(contenders, kind.sequences(model.config.vocab_size), parameters)
        ]
    except torch.OutOfMemoryError:
        return [{"model": name, "work": "not measured: out of device memory"}]


def _speed(
    contenders: dict[str, Callable[[list[list[int]]], Outcome]],
    sequences: list[list[int]],
    parameters: int,
) -> list[dict[str, Any]]:
    outcomes = {name: score(sequences[:8]) for name, score in contenders.items()}

    def run(name: str) -> Callable[[], Sample]:
        def once() -> Sample:
            # Scores are read back to the host, so the clock stops after the device has finished.
            outcomes[name], sample = timed(lambda: contenders[name](sequences))
            return sample

        return once

    samples = interleave(
        {name: run(name) for name in contenders}, repeats=REPEATS, budget_s=BUDGET_S
    )
    seconds = {name: median_of(runs) for name, runs in samples.items()}
    best = min(taken for name, taken in seconds.items() if name.startswith("rewardserve"))
    return [
        {
            "contender": name,
            "tokens": sum(map(len, sequences)),
            "computed_tokens": outcomes[name].computed_tokens,
            **summary(runs),
            "tokens_per_s": sum(map(len, sequences)) / seconds[name],
            "pairs_per_s": len(sequences) / 2 / seconds[name],
            "tflops": 2 * parameters * outcomes[name].computed_tokens / seconds[name] / 1e12,
            "ours_is": seconds[name] / best,
        }
        for name, runs in samples.items()
    ]


def peak_tflops(device: str) -> float | None:
    """The data sheet's rate for a device's name, or None for one that is not listed."""
    return next((rate for part, rate in PEAK_TFLOPS.items() if part in device), None)


def report(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    peak = peak_tflops(record["device"])
    rows = [_printed(row, peak, record["measured_tflops"]) for row in record["speed"]]
    return "\n".join(
        [
            f"### {record['device']}, bfloat16",
            f"\nOne large matrix product here: {record['measured_tflops']:.3g} TFLOP/s; "
            f"data sheet: {peak or 'not listed'}.\n",
            table(rows),
            "\nLargest difference from eager float32:\n",
            table(record["agreement"]),
        ]
    )


def _printed(row: dict[str, Any], peak: float | None, measured: float) -> dict[str, object]:
    if "contender" not in row:
        return {"model": row["model"], "work": row["work"]}
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
