"""`rewardserve report`: one page, its pictures and report.json, from an output folder."""

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from rewardserve.batch.output import ScoredCorpus, open_scored
from rewardserve.batch.report import figures, rewardbench, statistics
from rewardserve.batch.report.answers import Answers, read_answers
from rewardserve.batch.report.cases import find_cases
from rewardserve.batch.storage import Folder, inside, split
from rewardserve.batch.summary import summarise

REPORT_FOLDER: Final = "_report"


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the page."""

    name: str
    title: str
    note: str
    data: bytes


def report(out: str, into: str | None = None) -> str:
    """Write report.html, report.json and the pictures; returns the folder they are in.

    `into` is `<out>/_report` when left out. Raises DataError and OutputFailed.
    """
    scored = open_scored(out)
    summary = summarise(scored)
    answers = read_answers(scored)
    benchmarks = _rewardbench(scored, summary)
    pictures = [
        Picture(name, title, note, figures.png(figure))
        for name, title, note, figure in _figures(answers, summary)
    ]
    folder = Folder(into or inside(out, REPORT_FOLDER))
    folder.create()
    for picture in pictures:
        folder.write_bytes(f"{picture.name}.png", picture.data)
    folder.write_json("report.json", _as_json(answers, summary, benchmarks))
    page = _page(scored, answers, summary, benchmarks, pictures)
    folder.write_bytes("report.html", page.encode())
    return folder.path


def _figures(answers: Answers, summary: dict[str, Any]) -> Iterator[tuple[str, str, str, Figure]]:
    """Name, title, note and drawing of each figure that this corpus has the data for."""
    yield (
        "score_distributions",
        "Score distributions",
        "Raw scores. A model that tells right from wrong keeps the two colours apart.",
        figures.score_distributions(answers),
    )
    accuracy = {name: model["accuracy"] for name, model in summary["models"].items()}
    if all(accuracy.values()):
        yield (
            "accuracy_by_subset",
            "Accuracy by subset",
            "Bars with Wilson's 95% interval; the tick on each bar is what chance would give.",
            figures.accuracy_by_subset(accuracy),
        )
    if {0, 1} <= set(answers.right.tolist()):
        yield (
            "margin_calibration",
            "Margin calibration",
            "Every right answer against every wrong one to the same prompt, in bins of equally "
            "many couples. A curve that does not rise says that large margins mean nothing.",
            figures.margin_calibration(answers),
        )
    yield (
        "score_against_length",
        "Score against length",
        "Darker is more answers, the line their mean. A high correlation within one prompt means "
        "that the model pays for length.",
        figures.score_against_length(answers),
    )
    if len(answers.models) > 1:
        yield (
            "agreement",
            "Agreement between models",
            "1 where two models order all answers alike, 0 where they have nothing in common.",
            figures.model_agreement(answers),
        )
    curves = _curves(answers)
    if curves:
        yield (
            "best_of_n",
            "Best of n",
            "The exact expectation over all draws of n of each prompt's answers.",
            figures.best_of_n_curve(curves),
        )


def _curves(answers: Answers) -> dict[str, statistics.BestOfN]:
    found = {
        model: statistics.best_of_n(answers, index) for index, model in enumerate(answers.models)
    }
    several = {model: curve for model, curve in found.items() if curve is not None}
    return {model: curve for model, curve in several.items() if len(curve.values) > 2}


def _rewardbench(scored: ScoredCorpus, summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """RewardBench's own scores by model, where the corpus is one of the two."""
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    ties = _ties(scored) if "chosen" in scored.roles and scored.shape == "candidates" else {}
    for name, model in summary["models"].items():
        accuracy = {subset: group["accuracy"] for subset, group in model["accuracy"].items()}
        first[name] = rewardbench.version_1(accuracy)
        second[name] = rewardbench.version_2(accuracy, ties.get(name))
    found = {"RewardBench": first, "RewardBench 2": second}
    return {name: scores for name, scores in found.items() if all(scores.values())}


def _ties(scored: ScoredCorpus) -> dict[str, float | None]:
    rows: dict[str, list[rewardbench.TiesRow]] = {name: [] for name in scored.suffixes}
    if "id" not in scored.columns or "subset" not in scored.roles:
        return {}
    chosen, subset = scored.roles["chosen"], scored.roles["subset"]
    names = [f"rewards{suffix}.list.element.score" for suffix in scored.suffixes.values()]
    for table in scored.batches(["id", subset, chosen, *names]):
        for row in table.to_pylist():
            if row[subset] != rewardbench.TIES or not isinstance(row["id"], str):
                continue
            for model, suffix in scored.suffixes.items():
                scores = [each["score"] for each in row[f"rewards{suffix}"]]
                if None not in scores:
                    right = len(row[chosen])
                    rows[model].append(
                        rewardbench.TiesRow(row["id"], scores[:right], scores[right:])
                    )
    return {model: rewardbench.ties_score(found) for model, found in rows.items()}


def _as_json(
    answers: Answers, summary: dict[str, Any], benchmarks: dict[str, Any]
) -> dict[str, Any]:
    models = {}
    for index, model in enumerate(answers.models):
        curve = statistics.best_of_n(answers, index)
        models[model] = {
            "length_bias": asdict(statistics.length_bias(answers, index)),
            "calibration": [
                asdict(point)
                for point in statistics.calibration(statistics.margins(answers, index))
            ],
            "best_of_n": curve and {"labelled": curve.labelled, "value": curve.values.tolist()},
        }
    return {
        "summary": summary,
        "sampled_answers": len(answers.row_numbers),
        "models": models,
        "agreement": statistics.agreement(answers),
        "rewardbench": benchmarks,
    }


def _page(
    scored: ScoredCorpus,
    answers: Answers,
    summary: dict[str, Any],
    benchmarks: dict[str, Any],
    pictures: list[Picture],
) -> str:
    templates = Environment(loader=PackageLoader("rewardserve.batch.report", "."), autoescape=True)
    total = sum(model["scores"]["count"] for model in summary["models"].values())
    return templates.get_template("page.html.j2").render(
        title=split(scored.folder.path.rstrip("/"))[1],
        summary=summary,
        sampled=len(answers.row_numbers),
        everything=len(answers.row_numbers) * len(answers.models) >= total,
        rewardbench=benchmarks,
        figures=[
            {
                "title": picture.title,
                "note": picture.note,
                "data": base64.b64encode(picture.data).decode(),
            }
            for picture in pictures
        ],
        cases=find_cases(scored, answers),
    )
