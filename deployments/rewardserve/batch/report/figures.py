"""The report's figures, drawn with matplotlib off screen; each function fills one picture.

Knows arrays and axes. What a figure shows is said in its title and axis labels, so that a picture
taken out of the page still explains itself.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from rewardserve.batch.report import statistics
from rewardserve.batch.report.answers import Answers

WIDTH: Final = 7.2
HEIGHT: Final = 4.2
DPI: Final = 130
MAX_SUBSETS: Final = 30
"""Bars that stay readable; the commonest subsets are shown."""

GOOD, BAD, PLAIN, FAINT = "#2a7f62", "#c8553d", "#33658a", "#9aa5ab"

Groups = Mapping[str, Mapping[str, Any]]
"""Subset -> counts, as the summary has them."""


def png(figure: Figure) -> bytes:
    """The picture's bytes; equal figures give equal bytes."""
    target = io.BytesIO()
    FigureCanvasAgg(figure).print_png(target, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return target.getvalue()


def score_distributions(answers: Answers) -> Figure:
    """A histogram for each model, right and wrong answers apart where that is known."""
    figure, panels = _panels(answers.models)
    for index, axes in enumerate(panels):
        scores = answers.scores[:, index]
        shown = np.isfinite(scores)
        edges = np.histogram_bin_edges(scores[shown], bins=50).tolist()
        groups = [("right answers", 1, GOOD), ("wrong answers", 0, BAD), ("unlabelled", -1, PLAIN)]
        for label, value, colour in groups:
            part = scores[shown & (answers.right == value)]
            if len(part):
                axes.hist(part, edges, density=True, color=colour, alpha=0.6, label=label)
        axes.set(xlabel="score", ylabel="density")
        axes.legend(frameon=False, fontsize=8)
    return _titled(figure, "Score distributions")


def accuracy_by_subset(accuracy: Mapping[str, Groups]) -> Figure:
    """Accuracy of every model in every subset, with 95% intervals and the level of chance."""
    models = list(accuracy)
    counts = {name: group["rows"] for name, group in accuracy[models[0]].items()}
    subsets = sorted(counts, key=lambda name: (name != "all", -counts[name]))[:MAX_SUBSETS]
    figure, axes = _figure(1.4 + 0.17 * len(subsets) * (len(models) + 1))
    height = 0.8 / len(models)
    for index, model in enumerate(models):
        shown = [name for name in subsets if name in accuracy[model]]
        places = np.array([subsets.index(name) + index * height for name in shown])
        groups = [accuracy[model][name] for name in shown]
        shares = np.array([group["accuracy"] for group in groups])
        bounds = [statistics.wilson_interval(g["accuracy"] * g["rows"], g["rows"]) for g in groups]
        reach = np.abs(np.array(bounds).T - shares)
        colour = _colour(index)
        axes.barh(places, shares, height, xerr=reach, color=colour, label=model, alpha=0.85,
                  error_kw={"lw": 0.9, "ecolor": "#444"})  # fmt: skip
        chance = [group["by_chance"] for group in groups]
        axes.plot(
            chance, places, "|", color="black", markersize=7, label="chance" if not index else None
        )
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(subsets))],
                    [f"{name} ({counts[name]:,})" for name in subsets], fontsize=8)  # fmt: skip
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy, with 95% interval (rows in brackets)")
    _legend_below(figure, axes)
    return _titled(figure, "Accuracy by subset")


def margin_calibration(answers: Answers) -> Figure:
    """How often the higher score is right, against how much higher it is."""
    figure, panels = _panels(answers.models)
    for index, axes in enumerate(panels):
        points = statistics.calibration(statistics.margins(answers, index))
        distance = np.array([point.distance for point in points])
        right = np.array([point.right for point in points])
        bounds = np.array([[point.low, point.high] for point in points]).reshape(-1, 2)
        reach = np.abs(bounds - right[:, None]).T
        axes.errorbar(distance, right, reach, marker="o", ms=4, lw=1.2, capsize=2, color=PLAIN)
        shown = np.linspace(0, axes.get_xlim()[1], 200)
        expected = 1 / (1 + np.exp(-shown))
        axes.plot(shown, expected, ":", color="black", lw=1, label="if scores were log-odds")
        axes.axhline(0.5, color=FAINT, lw=0.8)
        axes.set(xlim=(0, None), ylim=(0, 1.02), xlabel="absolute margin", ylabel="share right")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _titled(figure, "Margin calibration")


def score_against_length(answers: Answers) -> Figure:
    """Where scores lie at each length, with the rank correlations that tell length bias."""
    figure, panels = _panels(answers.models)
    for index, axes in enumerate(panels):
        scores = answers.scores[:, index]
        shown = np.isfinite(scores) & (answers.tokens > 0)
        if shown.any():
            axes.hexbin(answers.tokens[shown], scores[shown], gridsize=45, bins="log",
                        xscale="log", cmap="Blues", mincnt=1, linewidths=0.1)  # fmt: skip
            _trend(axes, answers.tokens[shown], scores[shown])
        bias = statistics.length_bias(answers, index)
        notes = [("all answers", bias.overall), ("same prompt", bias.within_prompt)]
        text = ", ".join(f"{name} {value:+.2f}" for name, value in notes if value is not None)
        axes.set_title(f"{answers.models[index]}\nrank correlation: {text or 'none'}", fontsize=8)
        _plain_lengths(axes)
        axes.set(xlabel="tokens of the conversation", ylabel="score")
    return _titled(figure, "Score against length")


def model_agreement(answers: Answers) -> Figure:
    """Rank correlation between every two models' scores."""
    matrix = [[np.nan if v is None else v for v in row] for row in statistics.agreement(answers)]
    count = len(answers.models)
    figure, axes = _figure(max(HEIGHT, 1.6 + 0.55 * count))
    image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu")
    axes.set_xticks(range(count), answers.models, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(count), answers.models, fontsize=8)
    for row in range(count):
        for column in range(count):
            value = matrix[row][column]
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(
                column, row, f"{value:z.2f}", ha="center", va="center", color=colour, fontsize=8
            )
    figure.colorbar(image, ax=axes, shrink=0.8, label="Spearman rank correlation")
    return _titled(figure, "Agreement between models")


def best_of_n_curve(curves: Mapping[str, statistics.BestOfN]) -> Figure:
    """What keeping the best-scored of n answers gives, for each model."""
    figure, axes = _figure()
    labelled = all(curve.labelled for curve in curves.values())
    for index, (model, curve) in enumerate(curves.items()):
        value = curve.values if labelled else curve.values - curve.values[0]
        axes.plot(
            range(1, len(value) + 1), value, marker="o", ms=4, color=_colour(index), label=model
        )
    chance = next(iter(curves.values())).values[0]
    axes.axhline(chance if labelled else 0, color=FAINT, lw=0.8, label="one answer at random")
    axes.set(xlabel="n answers drawn at random, the best-scored kept",
             ylabel="share of right answers" if labelled else "mean score above n = 1")  # fmt: skip
    axes.set_xticks(_whole_numbers(max(len(curve.values) for curve in curves.values())))
    axes.legend(frameon=False, fontsize=8)
    return _titled(figure, "Best of n")


def _figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _panels(models: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """One panel for each model, two beside each other, each under its model's name."""
    columns = min(2, len(models))
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 2.9 * rows), dpi=DPI)
    figure.set_layout_engine("constrained", hspace=0.08, wspace=0.05)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes, model in zip(grid, models, strict=False):
        axes.set_title(model, fontsize=9)
        _plain(axes)
    for axes in grid[len(models) :]:
        axes.remove()
    return figure, grid[: len(models)]


def _trend(axes: Axes, tokens: Any, scores: Any) -> None:
    order = np.argsort(tokens, kind="stable")
    parts = [part for part in np.array_split(order, 12) if len(part)]
    middles = [float(np.median(tokens[part])) for part in parts]
    axes.plot(middles, [float(scores[part].mean()) for part in parts], color=BAD, lw=1.4)


def _plain_lengths(axes: Axes) -> None:
    """Token counts as people write them, and few enough to be read."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _titled(figure: Figure, title: str) -> Figure:
    for axes in figure.axes:
        _plain(axes)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _colour(index: int) -> Any:
    return colormaps["tab10"](index % 10)


def _whole_numbers(most: int) -> list[int]:
    step = max(1, most // 8)
    return [1, *range(step if step > 1 else 2, most + 1, step)]
