"""The `rewardserve` command. Each function here only names options and prints what it is given.

Progress and errors go to stderr; stdout holds tables, or JSON with `--json`. Exit codes: 0 done,
1 failed, 2 bad usage, 3 done with bad rows. Commands import what they need when they run, so that
`rewardserve --help` answers at once.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from rewardserve.errors import RewardServeError, SettingsError
from rewardserve.settings import Dtype, Quantization

app = typer.Typer(
    help="Serve and bulk-score LLM reward models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Inputs = Annotated[list[str], typer.Argument(help="Files, folders, globs or object store paths.")]
Config = Annotated[
    Path | None, typer.Option(help="A cluster.yaml whose models, and by `score` routes, are named.")
]
Columns = Annotated[
    str | None, typer.Option(help="Columns by role, as `prompt=question,chosen=good`.")
]
Truncate = Annotated[
    bool, typer.Option("--truncate", help="Shorten what is over the model's limit.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of tables.")]
DtypeOption = Annotated[Dtype | None, typer.Option(help="The backbone's dtype.")]
OneModel = Annotated[
    str | None, typer.Option(help="Whose scores to use, where several models scored.")
]
Gpus = Annotated[float | None, typer.Option(help="GPUs for each copy of a model; 0 is CPU.")]


def main() -> None:
    """Entry point of the `rewardserve` command."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    app()


@app.command()
def up(
    cluster: Annotated[Path | None, typer.Argument(help="The cluster file.")] = None,
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the zoo on this CPU.")] = False,
    zoo: Annotated[Path | None, typer.Option(help="Folder of the demo's zoo.")] = None,
    port: Annotated[int, typer.Option(help="Port of the demo, on 127.0.0.1.")] = 8000,
    address: Annotated[
        str | None, typer.Option(help="Deploy to this running Ray and return.")
    ] = None,
) -> None:
    """Serve a cluster file, or the demo, until Ctrl-C."""
    from rewardserve.serving.cluster_file import read_cluster_file
    from rewardserve.serving.demo import write_demo_cluster
    from rewardserve.serving.up import up as bring_up

    with _errors_to_exit_codes():
        if demo == (cluster is not None):
            raise SettingsError("name a cluster file, or give --demo")
        file = cluster or write_demo_cluster(_demo_zoo(zoo or _cache_folder()), port=port)
        bring_up(read_cluster_file(file), _announce, address=address)


@app.command()
def score(  # noqa: PLR0913 - one argument per option
    inputs: Inputs,
    *,
    out: Annotated[str, typer.Option(help="Output folder; running again resumes.")],
    model: Annotated[
        str, typer.Option(help="Names in --config, folders or hub ids, divided by commas.")
    ],
    config: Config = None,
    columns: Columns = None,
    dtype: DtypeOption = None,
    gpus: Gpus = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest conversation.")] = None,
    actors: Annotated[int | None, typer.Option(help="At most so many copies a model.")] = None,
    unit_rows: Annotated[int | None, typer.Option(help="Rows in one part file.")] = None,
    truncate: Truncate = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score a corpus of pairs, candidates or conversations, exactly once."""
    from rewardserve.batch.score_command import ScoreOptions
    from rewardserve.batch.score_command import score as run
    from rewardserve.batch.units import UNIT_ROWS

    options = ScoreOptions(
        inputs=inputs,
        out=out,
        model=model,
        config=config,
        model_settings=_given(dtype=dtype, gpus=gpus, max_tokens=max_tokens),
        columns=columns,
        truncate=truncate,
        unit_rows=unit_rows or UNIT_ROWS,
        actors=actors,
        overwrite=overwrite,
        as_json=as_json,
    )
    raise typer.Exit(run(options))


@app.command()
def report(
    out: Annotated[str, typer.Argument(help="Output folder of `score`.")],
    *,
    into: Annotated[
        str | None, typer.Option(help="Folder of the report; OUT/_report when left out.")
    ] = None,
) -> None:
    """Write a page of figures and tables about a scored corpus."""
    from rewardserve.batch.report.report_command import report as write_report

    with _errors_to_exit_codes():
        _announce(f"wrote {write_report(out, into)}/report.html")


@app.command()
def pairs(  # noqa: PLR0913 - one argument per option
    out: Annotated[str, typer.Argument(help="Output folder of `score`.")],
    *,
    into: Annotated[str, typer.Option("--into", "-o", help="Parquet file to write.")],
    model: OneModel = None,
    pick: Annotated[
        Literal["best_worst", "best_random", "all"], typer.Option(help="Which answers to pair.")
    ] = "best_worst",
    min_margin: Annotated[float, typer.Option(min=0, help="Least difference of scores.")] = 0.0,
    max_length_ratio: Annotated[
        float | None, typer.Option(min=1, help="How much longer one of the two may be.")
    ] = None,
    per_prompt: Annotated[int, typer.Option(min=1, help="Most pairs of one prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Of best_random.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Mine preference pairs, in TRL's format, from a scored corpus."""
    from rewardserve.batch.selection.pairs_command import mine
    from rewardserve_client.pairs import PairRules

    rules = PairRules(pick, min_margin, max_length_ratio, per_prompt, seed)
    with _errors_to_exit_codes():
        _show_counts("Pairs", mine(out, into, rules, model), as_json=as_json)


@app.command("filter")
def filter_best(
    out: Annotated[str, typer.Argument(help="Output folder of `score`.")],
    *,
    into: Annotated[str, typer.Option("--into", "-o", help="Parquet file to write.")],
    fraction: Annotated[float, typer.Option(help="Share of the prompts to keep.")] = 1.0,
    min_score: Annotated[float | None, typer.Option(help="Least score to keep.")] = None,
    model: OneModel = None,
    as_json: AsJson = False,
) -> None:
    """Keep each prompt's best answer, and of those the best fraction (RAFT)."""
    from rewardserve.batch.selection.filter_command import keep_best

    with _errors_to_exit_codes():
        counts = keep_best(out, into, fraction=fraction, min_score=min_score, model=model)
        _show_counts("Best answers", counts, as_json=as_json)


@app.command()
def calibrate(
    inputs: Inputs,
    *,
    models: Annotated[str, typer.Option(help="As --model of `score`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="One file per model goes here.")],
    config: Config = None,
    columns: Columns = None,
    dtype: DtypeOption = None,
    gpus: Gpus = None,
    truncate: Truncate = False,
) -> None:
    """Measure what models' scores look like on a corpus, for routes that normalise them."""
    from rewardserve.batch.lab.calibrate_command import calibrate_models
    from rewardserve.batch.lab.scoring import lab_settings

    with _errors_to_exit_codes():
        given = _given(dtype=dtype, gpus=gpus)
        settings = lab_settings(models, config, given, columns=columns, truncate=truncate)
        for name in calibrate_models(inputs, out, settings):
            _announce(f"wrote {out / name}.json")


@app.command()
def routes(
    inputs: Inputs,
    *,
    config: Annotated[Path, typer.Option(help="The cluster file whose routes are tried.")],
    scores: Annotated[Path, typer.Option(help="Folder that keeps the models' scores.")],
    columns: Columns = None,
    truncate: Truncate = False,
    as_json: AsJson = False,
) -> None:
    """Try every configured route on a labelled corpus: accuracy, agreement, spread, cost."""
    from rewardserve.batch.lab.routes_command import show_routes, try_routes
    from rewardserve.batch.lab.scoring import lab_settings
    from rewardserve.serving.cluster_file import read_cluster_file

    with _errors_to_exit_codes():
        (router,) = read_cluster_file(config).routers.values()
        models = ",".join(router.models)
        settings = lab_settings(models, config, columns=columns, truncate=truncate)
        calibration = Path(router.calibration) if router.calibration else None
        report = try_routes(inputs, scores, settings, router.routes, calibration=calibration)
        if as_json:
            _print_json(report)
        else:
            show_routes(report, Console())


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="Hub id or folder.")],
    *,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    device: Annotated[str, typer.Option(help="Where to run, as `cpu` or `cuda:0`.")] = "cpu",
    dtype: DtypeOption = None,
    as_json: AsJson = False,
) -> None:
    """Compare a model's scores with the values its card publishes; exit 1 when one is off."""
    from rewardserve.engine.scorer import load_scorer
    from rewardserve.families.hub import locate
    from rewardserve.families.registry import described
    from rewardserve.families.verify import verify as compare

    with _errors_to_exit_codes():
        spec = described(model, locate(model, revision).folder)
        dtype = dtype or spec.dtype
        scorer = load_scorer(model, revision=revision, device=device, dtype=dtype)
        findings = compare(scorer.score, spec, half_precision=dtype != "float32")
    rows = [
        {
            "check": finding.check,
            "expected": finding.expected,
            "found": finding.found,
            "tolerance": finding.tolerance,
            "passed": finding.passed,
        }
        for finding in findings
    ]
    if as_json:
        _print_json(rows)
    else:
        _print_table(f"{model} against its card", rows)
    raise typer.Exit(0 if all(finding.passed for finding in findings) else 1)


@app.command()
def quantization(
    model: Annotated[str, typer.Argument(help="Hub id or folder.")],
    *,
    to: Annotated[Quantization, typer.Option(help="What the weights are rounded to.")] = "int8",
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    device: Annotated[str, typer.Option(help="Where to run, as `cpu` or `cuda:0`.")] = "cpu",
    dtype: DtypeOption = None,
    as_json: AsJson = False,
) -> None:
    """Measure what 8-bit weights change in a model's scores, on the demo's corpus."""
    from rewardserve.engine.scorer import load_scorer
    from rewardserve.zoo.quantization import measure_quantization

    with _errors_to_exit_codes():
        effect = measure_quantization(
            lambda how: (
                load_scorer(
                    model, revision=revision, device=device, dtype=dtype or "bfloat16", quantize=how
                ).score
            ),
            to,
        )
    row = {
        "weights": to,
        "mean difference": effect.mean_difference,
        "largest difference": effect.largest_difference,
        "same order": effect.agreement,
    }
    if as_json:
        _print_json(row)
    else:
        _print_table(f"{model} in 8 bits against itself", [row])


@app.command()
def models(*, as_json: AsJson = False) -> None:
    """List the reward models this version knows, and why some cannot be loaded."""
    from rewardserve.families.registry import registry

    rows = [
        {
            "model": name,
            "supported": "no: " + spec.unsupported if spec.unsupported else "yes",
            "dtype": spec.dtype,
            "RewardBench": spec.rewardbench[0] if spec.rewardbench else None,
            "RewardBench 2": spec.rewardbench_2,
        }
        for name, spec in registry().models.items()
    ]
    if as_json:
        _print_json(rows)
    else:
        _print_table("known reward models", rows)


@app.command()
def doctor(
    cluster: Annotated[Path, typer.Argument(help="The cluster file.")], *, as_json: AsJson = False
) -> None:
    """Look for what would go wrong with a cluster file on this machine; start nothing."""
    from dataclasses import asdict

    from rewardserve.serving.cluster_file import read_cluster_file
    from rewardserve.serving.doctor import examine

    with _errors_to_exit_codes():
        findings = examine(read_cluster_file(cluster))
    rows = [asdict(finding) for finding in findings]
    if as_json:
        _print_json(rows)
    else:
        _print_table(f"{cluster}", rows)
    if any(finding.verdict == "bad" for finding in findings):
        raise typer.Exit(1)


@app.command()
def zoo(folder: Annotated[Path, typer.Argument(help="Where to write.")]) -> None:
    """Write seven tiny reward models with the real architectures, and a corpus for them."""
    from rewardserve.zoo import ZOO_MODELS, write_zoo

    write_zoo(folder)
    _announce(f"wrote {', '.join(ZOO_MODELS)} and corpus/ to {folder}")


def _demo_zoo(folder: Path) -> Path:
    """The zoo in `folder`, written and calibrated when it is not there."""
    if not (folder / "calibration").is_dir():
        from rewardserve.serving.demo import calibrate_zoo
        from rewardserve.zoo import write_zoo

        _announce(f"writing the zoo to {folder} (once, under a minute)")
        write_zoo(folder)
        calibrate_zoo(folder)
    return folder.resolve()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rewardserve" / "zoo"


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _announce(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _errors_to_exit_codes() -> Iterator[None]:
    try:
        yield
    except RewardServeError as error:
        _fail(error)


def _fail(error: RewardServeError) -> NoReturn:
    console = Console(stderr=True)
    console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from error


def _show_counts(title: str, counts: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        _print_json(counts)
    else:
        _print_table(title, [{name.replace("_", " "): count for name, count in counts.items()}])


def _print_json(content: Any) -> None:
    import json

    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left")
    for heading in rows[0] if rows else []:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
