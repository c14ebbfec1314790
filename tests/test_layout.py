"""Where tests stand: each in a folder of the package that it tests, and none leans on another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import refsynth

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("test_*.py"))
HELPERS = sorted((TESTS / "support").glob("*.py"))
BESIDE = {"benchmarks", "docs", "whole"}
"""Folders that no package stands behind: of the benchmarks, of documents, and of runs through the whole product."""


def imported(code: str) -> set[str]:
    """Return the full names that a module imports, wherever in it, also the names taken from a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found |= {start} | {f"{start}.{name.name}" for name in node.names}
    return found


def of_tests(names: set[str]) -> set[str]:
    """Return those of imported names that lie in a test module, or in a conftest."""
    return {name for name in names if any(part.startswith("test_") or part == "conftest" for part in name.split("."))}


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((TESTS / "support").glob("*.py"))], ids=lambda path: str(path.relative_to(TESTS))
)
def test_no_test_module_is_imported(path: Path) -> None:
    assert of_tests(imported(path.read_text("utf-8"))) == set(), "move what both need to tests/support"


@pytest.mark.parametrize(
    "line",
    [
        "from test_pipeline import make_task",
        "from tests.pipeline.test_pipeline import make_task",
        "from tests.pipeline import test_pipeline",
        "import tests.pipeline.test_pipeline as other",
        "def late():\n    from .test_static import make_run",
        "from tests.conftest import write_tiny",
    ],
)
def test_an_import_of_a_test_module_is_seen(line: str) -> None:
    assert of_tests(imported(line))


def test_folders_mirror_the_package() -> None:
    package = Path(refsynth.__file__).parent
    folders = {path.parent.relative_to(TESTS).as_posix() for path in MODULES} - {"."}
    assert {folder for folder in folders - BESIDE if not (package / folder).is_dir()} == set()
    assert [path.name for path in TESTS.glob("test_*.py")] == [Path(__file__).name]


def test_helpers_stand_in_support() -> None:
    """A module that is no test is in support; what a test runs as a file of its own may stand beside it."""
    beside = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py") if not path.name.startswith("test_")}
    assert {name for name in beside if not name.startswith("support/")} == {"__init__.py", "conftest.py", "models/fake_gpu.py"}
