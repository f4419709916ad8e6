"""Corpora are recognised by names and types, and what is not clear is an error with the choices."""

from typing import Any

import pyarrow as pa
import pytest

from rewardserve.batch.columns import parse_overrides, recognise
from rewardserve.errors import SettingsError, UnknownColumns

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]

CORPORA: dict[str, tuple[dict[str, Any], str, str]] = {
    "Skywork": ({"chosen": TURNS, "rejected": TURNS, "source": "x"}, "pairs", "messages"),
    "UltraFeedback": (
        {"prompt": "q", "prompt_id": "1", "chosen": TURNS, "rejected": TURNS, "messages": TURNS,
         "score_chosen": 8.0, "score_rejected": 2.0},
        "pairs", "column",
    ),
    "HH-RLHF": (
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        "pairs", "hh_text",
    ),
    "HelpSteer2": (
        {"prompt": "q", "response": "a", "helpfulness": 4, "correctness": 4, "coherence": 4,
         "complexity": 1, "verbosity": 1},
        "single", "column",
    ),
    "RewardBench": (
        {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_model": "x", "subset": "hep-go"},
        "pairs", "column",
    ),
    "RewardBench 2": (
        {"id": "1", "prompt": "q", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math"},
        "candidates", "column",
    ),
    "TRL implicit text": ({"chosen": "sky is blue", "rejected": "sky is red"}, "pairs",
                          "shared_prefix"),
    "TRL explicit messages": (
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:]}, "pairs", "column",
    ),
    "TRL unpaired": ({"prompt": "q", "completion": "a", "label": True}, "single", "column"),
    "Online-RLHF": ({"prompt": TURNS[:1], "responses": ["a", "b"]}, "candidates", "column"),
    "SimPO": ({"prompt": "q", "all_generated_responses": ["a", "b"]}, "candidates", "column"),
    "OpenRLHF": ({"input": "q", "output": "a", "reward": 1.0}, "single", "column"),
    "OpenRLHF many": ({"input": "q", "output": ["a", "b"]}, "candidates", "column"),
    "messages": ({"messages": TURNS, "id": 3}, "single", "messages"),
    "best of n": (
        {"prompt": "q", "responses": ["a", "b"], "labels": [True, False]}, "candidates", "column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("corpus", CORPORA)
def test_known_corpora_are_recognised(corpus: str) -> None:
    row, shape, prompt_source = CORPORA[corpus]
    layout = recognise(pa.Table.from_pylist([row]).schema, [row])
    assert (layout.shape, layout.prompt_source) == (shape, prompt_source)


def test_optional_columns_take_their_roles() -> None:
    row = CORPORA["best of n"][0] | {"subset": "s"}
    layout = recognise(pa.Table.from_pylist([row]).schema, [row])
    assert layout.roles["labels"] == "labels"
    assert layout.roles["subset"] == "subset"


def test_unknown_columns_are_named_with_their_types() -> None:
    schema = pa.schema([("question", pa.string()), ("score", pa.int64())])
    with pytest.raises(UnknownColumns, match=r"question \(string\), score \(int64\).*--columns"):
        recognise(schema, [])


def test_a_column_of_the_wrong_type_is_not_taken_for_its_role() -> None:
    schema = pa.schema([("prompt", pa.string()), ("responses", pa.int64())])
    with pytest.raises(UnknownColumns):
        recognise(schema, [])


def test_an_ambiguous_file_is_refused_with_the_choices() -> None:
    row = {"prompt": "q", "response": "a", "completion": "b"}
    with pytest.raises(
        UnknownColumns, match=r"prompt=prompt,response=response or .*response=completion"
    ):
        recognise(pa.Table.from_pylist([row]).schema, [row])


def test_overrides_replace_the_names_and_settle_ambiguity() -> None:
    row = {"question": "q", "answers": ["a"], "ok": [True], "prompt": "x", "response": "y"}
    overrides = parse_overrides("prompt=question,responses=answers,labels=ok")
    layout = recognise(pa.Table.from_pylist([row]).schema, [row], overrides)
    assert layout.shape == "candidates"
    assert layout.roles == {"prompt": "question", "responses": "answers", "labels": "ok"}


def test_an_override_that_names_no_column_is_an_error() -> None:
    with pytest.raises(UnknownColumns, match="no column nope"):
        recognise(pa.schema([("a", pa.string())]), [], {"messages": "nope"})


@pytest.mark.parametrize("option", ["prompt", "prompts=a", "prompt=", "=a"])
def test_a_malformed_override_is_bad_usage(option: str) -> None:
    with pytest.raises(SettingsError, match="role=column"):
        parse_overrides(option)


def test_a_mixture_of_marked_and_plain_text_is_refused() -> None:
    rows = [
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {"chosen": "plain", "rejected": "plain too"},
    ]
    with pytest.raises(UnknownColumns, match="Human: marker"):
        recognise(pa.Table.from_pylist(rows).schema, rows)
