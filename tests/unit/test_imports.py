"""Imports run one way, and the client stands alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "deployments" / "rewardserve"
CLIENT = ROOT / "client" / "rewardserve_client"

LAYERS = [
    {"errors", "settings", "route_settings"},
    {"families"},
    {"engine", "routing"},
    {"batch", "serving"},
    {"app", "cli", "zoo"},
]
"""From the lowest up: a part imports its own layer's lower siblings' layers, never a higher one."""
BESIDE: set[tuple[str, str]] = {
    ("settings", "errors"),
    ("route_settings", "settings"),
    ("route_settings", "errors"),
    ("settings", "route_settings"),
    ("cli", "app"),
    ("cli", "zoo"),
}
"""The imports allowed within one layer."""


def layer(part: str) -> int:
    return next(index for index, parts in enumerate(LAYERS) if part in parts)


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            assert node.module
            yield node.module


def part_of(file: Path) -> str:
    return file.relative_to(SERVER).with_suffix("").parts[0]


def server_files() -> list[Path]:
    return [file for file in sorted(SERVER.rglob("*.py")) if file != SERVER / "__init__.py"]


def test_every_part_of_the_server_has_a_layer() -> None:
    assert {part_of(file) for file in server_files()} <= set().union(*LAYERS)


@pytest.mark.parametrize("file", server_files(), ids=lambda file: str(file.relative_to(SERVER)))
def test_server_imports_run_downwards(file: Path) -> None:
    part = part_of(file)
    for module in imported_modules(file):
        if module.split(".")[0] != "rewardserve" or module == "rewardserve":
            continue
        other = module.split(".")[1]
        allowed = other == part or layer(other) < layer(part) or (part, other) in BESIDE
        assert allowed, f"{part} must not import {module}"


def test_routing_and_the_tree_are_pure() -> None:
    pure = [*SERVER.glob("routing/*.py"), SERVER / "engine" / "tree.py"]
    for file in pure:
        roots = {module.split(".")[0] for module in imported_modules(file)}
        assert not roots & {"ray", "torch", "transformers", "fastapi", "starlette"}, file


def test_the_engine_and_the_families_know_no_ray_and_no_http() -> None:
    for file in [*SERVER.glob("engine/*.py"), *SERVER.glob("families/*.py")]:
        roots = {module.split(".")[0] for module in imported_modules(file)}
        assert not roots & {"ray", "fastapi", "starlette", "httpx2"}, file


@pytest.mark.parametrize("file", sorted(CLIENT.rglob("*.py")), ids=lambda file: file.name)
def test_the_client_imports_nothing_of_the_server(file: Path) -> None:
    assert not {m for m in imported_modules(file) if m.split(".")[0] == "rewardserve"}


def test_importing_the_client_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, rewardserve_client\n"
        "print({'torch', 'ray', 'transformers', 'rewardserve'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
