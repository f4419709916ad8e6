"""LitServe in front of plain transformers; started with a checkpoint's folder and a port.

Batches whoever waits, as LitServe does, and scores each batch sorted by length, eight at a time.
"""

import os
import sys
from typing import Any, Final

from litserve import LitAPI, LitServer
from transformers import AutoTokenizer

from benchmarks.peers.batches import Batches
from benchmarks.peers.protocol import Batch, Settings

MAX_BATCH_SIZE: Final = 64
BATCH_TIMEOUT_S: Final = 0.01


class RewardAPI(LitAPI):  # type: ignore[misc] # Any where LitServe is not installed
    """Conversations in, raw scores out."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
        self._folder = folder

    def setup(self, device: str) -> None:  # noqa: ARG002
        threads = int(os.environ["OMP_NUM_THREADS"])
        self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        self._model = Batches(Settings(self._folder, "float32", threads, "sorted by length"))

    def decode_request(self, request: dict[str, Any]) -> list[int]:
        text = self._tokenizer.apply_chat_template(request["messages"], tokenize=False)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def batch(self, inputs: list[list[int]]) -> list[list[int]]:
        return inputs

    def predict(self, x: list[list[int]]) -> list[float]:
        return self._model.score(Batch(x, [])).scores

    def unbatch(self, output: list[float]) -> list[float]:
        return output

    def encode_response(self, output: float) -> dict[str, float]:
        return {"score": output}


def main() -> None:
    """Serve until killed."""
    folder, port = sys.argv[1:]
    server = LitServer(RewardAPI(folder), accelerator="cpu", timeout=600)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
