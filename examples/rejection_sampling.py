"""One round of rejection sampling, and what it brings: the share of right answers it keeps.

    python examples/rejection_sampling.py [URL] [--data candidates.parquet] [--model NAME]

The policy here is a recording: a Parquet file with `prompt`, `responses` and `labels` (right or
wrong). A real one is `OpenAIGenerator(...)` or `transformers_generator(...)`; nothing else changes.
Without --data it is the demo's held-out corpus, which `make demo` has written.
"""

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from rewardserve_client import Prompt, RewardClient
from rewardserve_client.sampling import RejectionSampler, best

DEMO_CANDIDATES = Path(__file__).parents[1] / ".demo/zoo/corpus/candidates-heldout.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=Path, default=DEMO_CANDIDATES)
    parser.add_argument("--model", default="default")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--rows", type=int, default=200)
    args = parser.parse_args()

    rows = pq.read_table(args.data).slice(0, args.rows).to_pylist()
    recorded: dict[str, list[str]] = {str(row["prompt"]): row["responses"] for row in rows}

    def policy(prompt: Prompt, n: int) -> list[str]:
        return recorded[str(prompt)][:n]

    with RewardClient(args.url) as client:
        sampler = RejectionSampler(policy, client, args.n, keep=best(1), model=args.model)
        report = sampler.run(row["prompt"] for row in rows)

    first = sum(row["labels"][0] for row in rows) / len(rows)
    kept = sum(
        row["labels"][sample.kept[0]] for row, sample in zip(rows, report.samples, strict=True)
    )
    print(report)
    print(f"right answers: first of {args.n} {first:.1%}, best of {args.n} {kept / len(rows):.1%}")


if __name__ == "__main__":
    main()
