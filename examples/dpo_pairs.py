"""Preference pairs for DPO out of a file of candidates.

    python examples/dpo_pairs.py candidates.parquet pairs.jsonl [--url URL] [--model NAME]

The input has `prompt` and `responses`; with `labels` it is said how often the labels agree. The
output is TRL's preference format, for `DPOTrainer`. For files too large for one process there is
`rewardserve score`; `rewardserve_client.pairs.mine_rows` reads what it writes.
"""

import argparse
import json
from pathlib import Path

import pyarrow.parquet as pq

from rewardserve_client import RewardClient
from rewardserve_client.pairs import PairRules, mine_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("candidates", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="default")
    parser.add_argument("--min-margin", type=float, default=0.0)
    parser.add_argument("--max-length-ratio", type=float, default=3.0)
    args = parser.parse_args()

    rows = pq.read_table(args.candidates).to_pylist()
    rules = PairRules(min_margin=args.min_margin, max_length_ratio=args.max_length_ratio)
    with RewardClient(args.url) as client:
        scored = client.score_groups(
            [(row["prompt"], row["responses"]) for row in rows], model=args.model
        )

    pairs = agreed = judged = 0
    with args.out.open("w", encoding="utf-8") as file:
        for row, rewards in zip(rows, scored, strict=True):
            right = dict(zip(row["responses"], row.get("labels") or (), strict=False))
            for pair in mine_pairs(row["prompt"], row["responses"], rewards.scores, rules):
                file.write(json.dumps(pair.to_trl(), ensure_ascii=False) + "\n")
                pairs += 1
                if right and right[pair.chosen] != right[pair.rejected]:
                    judged += 1
                    agreed += right[pair.chosen]
    print(f"{pairs} pairs from {len(rows)} prompts")
    if judged:
        print(f"labels agree with {agreed / judged:.1%} of the {judged} pairs they tell apart")


if __name__ == "__main__":
    main()
