"""Rejection sampling: generate, score, keep; many prompts at a time.

While some prompts are being scored, others are being generated. Knows nothing of where responses
come from, what keeps them, or how files look.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._background import BackgroundLoop
from rewardserve_client._client import RewardClient
from rewardserve_client._types import Prompt
from rewardserve_client.sampling.curve import best_of_n_curve
from rewardserve_client.sampling.generate import Generate, Generator
from rewardserve_client.sampling.keep import Keep, best
from rewardserve_client.sampling.samples import Sample, SampleFile, write_parquet


@dataclass(frozen=True)
class SamplingReport:
    """What a run made; printed, it shows what drawing more responses would bring."""

    samples: list[Sample]
    """In the order of the prompts."""

    @property
    def kept(self) -> int:
        """How many responses were kept."""
        return sum(len(sample.kept) for sample in self.samples)

    @property
    def curve(self) -> dict[int, float]:
        """n -> expected best score of n responses, averaged over prompts."""
        return best_of_n_curve([sample.scores for sample in self.samples])

    def __str__(self) -> str:
        drawn = sum(len(sample.responses) for sample in self.samples)
        lines = [f"{len(self.samples)} prompts, {drawn} responses drawn, {self.kept} kept"]
        lines += [f"best of {n:>4}: {score:>9.4g}" for n, score in self.curve.items()]
        return "\n".join(lines)


class RejectionSampler:
    """Draws responses, scores them, and keeps those that a rule picks.

    sampler = RejectionSampler(generate, client, n=8, keep=best(1))
    print(sampler.run(prompts, "samples.jsonl"))
    """

    def __init__(
        self,
        generate: Generate,
        client: RewardClient | AsyncRewardClient,
        n: int,
        *,
        keep: Keep | None = None,
        model: str = "default",
        stop_at: float | None = None,
        step: int | None = None,
        concurrency: int = 16,
    ) -> None:
        """A sampler that can be run many times.

        Args:
            generate: takes a prompt and a number, gives that many responses; see `generate.py`.
            client: the cluster that scores.
            n: most responses to draw for one prompt.
            keep: which of them to keep; the best one when left out.
            model: the model or route that scores.
            stop_at: draw no more for a prompt once a response has this score. Not for routes that
                compare the responses to a prompt: they would see some of them at a time.
            step: how many responses to draw at a time; all `n` when left out, one with `stop_at`.
            concurrency: how many prompts are under way at a time.
        """
        self._generate = generate
        self._client = client.awaited() if isinstance(client, RewardClient) else client
        self._n = n
        self._keep = keep or best()
        self._model = model
        self._stop_at = stop_at
        self._step = step or (n if stop_at is None else 1)
        self._concurrency = concurrency

    def run(
        self, prompts: Iterable[Prompt], out: str | Path | None = None, *, progress: bool = True
    ) -> SamplingReport:
        """Samples every prompt, and waits for it; may be called where an event loop runs.

        With `out` ending in `.jsonl` or `.parquet` the samples go to that file. Running again
        leaves out the prompts that it has; a Parquet file keeps its progress beside it, in a file
        with `.jsonl` added to the name. The progress bar needs tqdm and is left out without it.
        """
        loop = BackgroundLoop()
        try:
            return loop.run(self.run_async(prompts, out, progress=progress))
        finally:
            loop.close(self._client.aclose)

    async def run_async(
        self, prompts: Iterable[Prompt], out: str | Path | None = None, *, progress: bool = True
    ) -> SamplingReport:
        """`run` for callers with an event loop."""
        path = Path(out) if out is not None else None
        file = _sample_file(path)
        numbered = list(enumerate(prompts))
        todo = [(i, prompt) for i, prompt in numbered if not (file and file.has(i, prompt))]
        samples = list(file.samples) if file else []
        with _progress_bar(len(numbered), len(numbered) - len(todo), shown=progress) as bar:
            async with aclosing(self._sampled(todo)) as finished:
                async for sample in finished:
                    samples.append(sample)
                    if file:
                        file.add(sample)
                    bar.update()
        if path and path.suffix == ".parquet":
            write_parquet(path, samples)
        return SamplingReport(sorted(samples, key=lambda sample: sample.index))

    async def stream(self, prompts: Iterable[Prompt]) -> AsyncGenerator[Sample]:
        """The samples as they are finished, which is not the order of the prompts."""
        async with aclosing(self._sampled(enumerate(prompts))) as finished:
            async for sample in finished:
                yield sample

    async def _sampled(self, numbered: Iterable[tuple[int, Prompt]]) -> AsyncGenerator[Sample]:
        generator = Generator(self._generate)
        waiting = iter(numbered)
        running: set[asyncio.Task[Sample]] = set()
        try:
            while True:
                for index, prompt in waiting:
                    running.add(asyncio.create_task(self._sample(generator, index, prompt)))
                    if len(running) >= self._concurrency:
                        break
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
                    running.discard(task)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            generator.close()

    async def _sample(self, generator: Generator, index: int, prompt: Prompt) -> Sample:
        responses: list[str] = []
        scores: list[float] = []
        while len(responses) < self._n and not self._good_enough(scores):
            drawn = await generator(prompt, min(self._step, self._n - len(responses)))
            rewards = await self._client.score_responses(prompt, drawn, model=self._model)
            responses += drawn
            scores += rewards.scores
        kept = self._keep(scores, index)
        return Sample(index, prompt, tuple(responses), tuple(scores), tuple(kept))

    def _good_enough(self, scores: Sequence[float]) -> bool:
        return self._stop_at is not None and any(score >= self._stop_at for score in scores)


def _sample_file(path: Path | None) -> SampleFile | None:
    if path is None:
        return None
    if path.suffix not in {".jsonl", ".parquet"}:
        raise ValueError(f"{path} must end in .jsonl or .parquet")
    journal = path if path.suffix == ".jsonl" else path.with_name(path.name + ".jsonl")
    return SampleFile(journal)


def _progress_bar(total: int, done: int, *, shown: bool) -> Any:
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 - optional
    except ImportError:
        return _NoBar()
    return tqdm(total=total, initial=done, disable=not shown, unit="prompt")


class _NoBar:
    def __enter__(self) -> "_NoBar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        pass
