"""The names of the package: shown by dir and help, and refused by a type checker where there are none."""

import importlib.util
import inspect
import pydoc
import subprocess
import sys

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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fine"), [("load", True), ("TextClassifier", True), ("nothing", False), ("laod", False)])
def test_a_type_checker_knows_the_names(tmp_path, name, fine):
    (tmp_path / "snippet.py").write_text(f"import refsynth\n\nrefsynth.{name}\n")
    options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports", f"--cache-dir={tmp_path}"]
    done = subprocess.run([sys.executable, "-m", "mypy", *options, "snippet.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0) == fine, done.stdout
    assert fine or f'has no attribute "{name}"' in done.stdout
