"""The generated corpus: reproducible, split without leaks, written in the shapes bulk jobs read."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rewardserve.zoo.attributes import LOST_BY_FLAW, objectives
from rewardserve.zoo.corpus import SUBSETS, Answer, Task, generate_corpus
from rewardserve.zoo.corpus_files import write_corpus

FILES = ("pairs", "candidates", "pairs-heldout", "candidates-heldout")


def prompts(tasks: list[Task]) -> set[tuple[str, ...]]:
    return {tuple(turn["content"] for turn in task.prompt) for task in tasks}


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another() -> None:
    assert generate_corpus(3, 2) == generate_corpus(3, 2)
    assert generate_corpus(3, 2) != generate_corpus(3, 2, seed=1)


def test_held_out_prompts_never_occur_in_the_fitting_split() -> None:
    corpus = generate_corpus(60, 40)
    assert len(prompts(corpus.fit)) == len(corpus.fit) == 60 * len(SUBSETS)
    assert len(prompts(corpus.held_out)) == len(corpus.held_out) == 40 * len(SUBSETS)
    assert not prompts(corpus.fit) & prompts(corpus.held_out)


def test_every_subset_is_there_in_equal_number() -> None:
    counts = Counter(task.subset for task in generate_corpus(5, 1).fit)
    assert counts == dict.fromkeys(SUBSETS, 5)


def test_asking_for_more_distinct_prompts_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than 300 distinct prompts"):
        generate_corpus(300, 0)


def test_each_task_has_one_good_answer_and_then_its_subsets_own_flaw() -> None:
    for task in generate_corpus(20, 1).fit:
        good, *flawed = task.answers
        assert good.flaw is None
        assert flawed[0].flaw in SUBSETS[task.subset][1]
        assert len({answer.flaw for answer in flawed}) == 3
        assert all(answer.text != good.text for answer in flawed)


def test_right_arithmetic_is_right_and_wrong_arithmetic_wrong() -> None:
    for task in generate_corpus(40, 1).fit:
        for answer in task.answers if task.subset == "arithmetic" else ():
            if answer.flaw in {None, "wrong"}:
                left, right = answer.text.split(",")[0].split(" = ")
                first, second = left.split(" + ")
                assert (int(first) + int(second) == int(right)) == (answer.flaw is None)


def test_wrong_code_differs_from_right_code_and_both_compile() -> None:
    for task in generate_corpus(20, 1).fit:
        for answer in task.answers if task.subset == "code" else ():
            if answer.flaw in {None, "wrong"}:
                compile(answer.text.split("```")[1].removeprefix("python\n"), "answer", "exec")


def test_a_flaw_lowers_its_own_objective_and_no_other() -> None:
    task = Task("manners", (), (Answer("Fine."), Answer("Fine.", "rude")))
    names = ("beavertails-is_safe", "ultrafeedback-helpfulness", "ultrafeedback-overall_score")
    good, rude = objectives([task], names)[0].tolist()
    assert good == [1, 1, 1]
    assert rude[0] == 1
    assert rude[1] == pytest.approx(1 - (0.4 + 1.0) / 2)
    assert rude[2] == pytest.approx(1 - (0.4 + 1.0) / 9)


def test_every_flaw_that_is_generated_takes_something_away() -> None:
    generated = {answer.flaw for task in generate_corpus(60, 1).fit for answer in task.answers}
    assert generated == {None, *LOST_BY_FLAW}


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(generate_corpus(6, 4), folder)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_files_are_byte_for_byte_reproducible(
    name: str, corpus_folder: Path, tmp_path: Path
) -> None:
    write_corpus(generate_corpus(6, 4), tmp_path)
    file = f"{name}.parquet"
    assert (tmp_path / file).read_bytes() == (corpus_folder / file).read_bytes()


@pytest.mark.parametrize(("name", "rows"), [("pairs", 54), ("pairs-heldout", 36)])
def test_pairs_answer_one_prompt_twice(name: str, rows: int, corpus_folder: Path) -> None:
    table = pq.read_table(corpus_folder / f"{name}.parquet")
    assert table.schema.names == ["id", "chosen", "rejected", "subset"]
    pairs = table.to_pylist()
    assert len(pairs) == rows
    for pair in pairs:
        assert pair["chosen"][:-1] == pair["rejected"][:-1]
        assert pair["chosen"][-1]["role"] == pair["rejected"][-1]["role"] == "assistant"
        assert pair["chosen"][-1] != pair["rejected"][-1]
    assert {len(pair["chosen"]) for pair in pairs} == {2, 4}, "single and multi-turn"


@pytest.mark.parametrize(("name", "rows"), [("candidates", 48), ("candidates-heldout", 32)])
def test_candidates_are_four_with_one_labelled_good(
    name: str, rows: int, corpus_folder: Path
) -> None:
    table = pq.read_table(corpus_folder / f"{name}.parquet")
    assert table.schema.names == ["id", "prompt", "responses", "labels", "subset"]
    candidates = table.to_pylist()
    assert len(candidates) == rows
    assert all(len(row["responses"]) == len(row["labels"]) == 4 for row in candidates)
    assert all(sum(row["labels"]) == 1 for row in candidates)
    assert len({row["labels"].index(True) for row in candidates}) == 4, "no place is favoured"
