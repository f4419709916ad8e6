"""`rewardserve routes`: a corpus scored once, and every configured route tried on it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rewardserve.batch.lab.route_lab import RouteLab
from rewardserve.batch.lab.scored_rows import scored_batches
from rewardserve.batch.lab.scoring import Scored, score_corpus
from rewardserve.batch.models import revision_of
from rewardserve.batch.score_command import ray_cluster
from rewardserve.batch.settings import BulkSettings
from rewardserve.batch.stage import Load, load_model_scorer
from rewardserve.batch.tally import ALL
from rewardserve.route_settings import RouteSettings
from rewardserve.routing.calibration import load_calibrations
from rewardserve.routing.plan import Plan, resolve


def try_routes(
    inputs: Sequence[str],
    scores: Path,
    settings: BulkSettings,
    routes: Mapping[str, RouteSettings],
    *,
    calibration: Path | None = None,
    load: Load = load_model_scorer,
) -> dict[str, Any]:
    """What every model and route makes of the corpus: accuracy, agreement, spread and cost.

    The models' scores stay under `scores`, so that routes can be changed and tried again;
    `calibration` is the folder of what routes need. Raises RewardServeError's kinds.
    """
    revisions = {model.name: revision_of(model) for model in settings.models}
    known = load_calibrations(calibration, revisions, revisions) if calibration else {}
    plan = resolve(routes, list(revisions), known)  # before anything is scored
    with ray_cluster():
        scored = score_corpus(inputs, scores, settings, load)
    return asyncio.run(_tried(plan, scored, revisions)) | {"rows": scored.corpus.manifest["rows"]}


async def _tried(plan: Plan, scored: Scored, revisions: Mapping[str, str | None]) -> dict[str, Any]:
    lab = RouteLab(plan, scored.corpus.shape, scored.corpus.roles)
    for batch in scored_batches(scored.corpus, revisions):
        await lab.add(batch)
    measured: Counter[str] = Counter()
    for counts in scored.corpus.computed_tokens():
        measured.update(counts)
    return lab.report(measured)


def show_routes(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables: accuracy and cost, subsets, agreement, and what cascades save."""
    console.print(_overview(report))
    if any(len(shown["accuracy"]) > 1 for shown in report["names"].values()):
        console.print(_by_subset(report["names"]))
    console.print(_agreement(report["kendall_tau"]))
    for name, strong in report["cascades"].items():
        console.print(_saving(report, name, strong), highlight=False)


def _overview(report: Mapping[str, Any]) -> Table:
    table = Table(title=f"routes on {report['rows']:,} rows", title_justify="left")
    table.add_column("")
    for heading in ("accuracy", "by chance", "mean spread", "computed tokens", "errors"):
        table.add_column(heading, justify="right")
    for name, shown in report["names"].items():
        judged = shown["accuracy"].get(ALL, {})
        table.add_row(
            name,
            _rate(judged.get("accuracy")),
            _rate(judged.get("by_chance")),
            "" if shown["mean_spread"] is None else f"{shown['mean_spread']:.3f}",
            f"{shown['computed_tokens']:,}",
            f"{sum(shown['errors'].values()):,}",
        )
    return table


def _by_subset(names: Mapping[str, Any]) -> Table:
    table = _table("accuracy by subset", names)
    for subset in sorted({subset for shown in names.values() for subset in shown["accuracy"]}):
        judged = (shown["accuracy"].get(subset, {}) for shown in names.values())
        table.add_row(subset, *(_rate(each.get("accuracy")) for each in judged))
    return table


def _agreement(rates: Mapping[str, Mapping[str, float | None]]) -> Table:
    table = _table("Kendall's tau within prompts", rates)
    for name, row in rates.items():
        table.add_row(name, *("" if rate is None else f"{rate:.2f}" for rate in row.values()))
    return table


def _saving(report: Mapping[str, Any], name: str, strong: str) -> str:
    spent = {each: shown["computed_tokens"] for each, shown in report["names"].items()}
    same = _rate(report["same_best"][name].get(strong)) or "unknown"
    share = _rate(spent[name] / spent[strong] if spent.get(strong) else None) or "unknown"
    return f"{name}: same best response as {strong} alone {same}, of its computed tokens {share}"


def _table(title: str, names: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    return table


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1%}"
