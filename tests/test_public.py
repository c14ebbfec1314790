"""The names of the package: shown by dir and help, and refused by a type checker where there are none."""

import importlib.util
import inspect
import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import refsynth

NAMES = {"Client", "Model", "RefsynthError", "RunConfig", "Task", "TextClassifier", "join_pair", "load", "run"}


def test_dir_and_help_show_the_names():
    assert {name for name in dir(refsynth) if not name.startswith("_")} == NAMES == {*refsynth.__all__} - {"__version__"}
    shown = pydoc.render_doc(refsynth, renderer=pydoc.plaintext)
    assert all(name in shown for name in NAMES) and "class TextClassifier" in shown and "load(folder" in shown


def test_dir_without_the_extra_shows_what_can_be_used(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    assert {name for name in dir(refsynth) if not name.startswith("_")} == NAMES - {"TextClassifier", "run"}
    assert dict(inspect.getmembers(refsynth))["load"] is refsynth.load


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = refsynth.nothing


def test_a_type_checker_knows_the_names_and_no_other(tmp_path):
    lines = ["import refsynth", *(f"refsynth.{name}" for name in sorted(NAMES)), "refsynth.nothing", "refsynth.laod"]
    (tmp_path / "snippet.py").write_text("\n".join(lines) + "\n")
    options = [
        "--config-file=",
        "--follow-imports=skip",
        f"--cache-dir={tmp_path}",
        "--no-error-summary",
        "--explicit-package-bases",
    ]
    files = [str(tmp_path / "snippet.py"), str(Path(refsynth.__file__))]
    source = str(Path(refsynth.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files], env={**os.environ, "MYPYPATH": source}, capture_output=True, text=True
    )
    found = [line.partition("error: ")[2] for line in done.stdout.splitlines()]
    assert found == [f'Module has no attribute "{name}"  [attr-defined]' for name in ("nothing", "laod")], (
        done.stdout + done.stderr
    )
