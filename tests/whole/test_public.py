"""The names of the package: shown by dir and help, and refused by a type checker where there are none."""

import importlib.util
import inspect
import os
import pydoc
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import refsynth

USED = {"Client", "Model", "RunConfig", "Task", "join_pair", "load"}
TRAINED = {"MultiLabelTextClassifier", "TextClassifier", "TextPairClassifier", "TokenTagger", "run"}
NAMES = {*refsynth.__all__} - {"__version__"}


def test_dir_and_help_show_the_names():
    assert {name for name in dir(refsynth) if not name.startswith("_")} == NAMES > USED | TRAINED
    shown = pydoc.render_doc(refsynth, renderer=pydoc.plaintext)
    assert all(name in shown for name in NAMES) and "class TextClassifier" in shown and "load(folder" in shown


def test_dir_without_the_extra_shows_what_can_be_used(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    assert {*dir(refsynth)} >= USED and not TRAINED & {*dir(refsynth)}
    assert dict(inspect.getmembers(refsynth))["load"] is refsynth.load


def types_in(hint):
    """Yield the types of refsynth in an annotation."""
    if inspect.isclass(hint) and not typing.get_args(hint) and hint.__module__.startswith("refsynth."):
        yield hint
    for inner in typing.get_args(hint):
        yield from types_in(inner)


def functions_of(value):
    """Yield the public functions, methods and properties of what is exported; those of other libraries are not ours."""
    members = inspect.getmembers_static(value) if inspect.isclass(value) else [(value.__name__, value)]
    for name, member in members:
        found = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(found) and found.__module__.startswith("refsynth."):
            yield found


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_type_that_is_taken_or_returned_has_a_public_name(name):
    public = {getattr(refsynth, other) for other in NAMES}
    taken = {
        kind
        for function in functions_of(getattr(refsynth, name))
        for hint in typing.get_type_hints(function).values()
        for kind in types_in(hint)
    }
    assert {f"{kind.__module__}.{kind.__qualname__}" for kind in taken - public} == set()


@pytest.mark.parametrize(
    "name", ["TextClassifier", "MultiLabelTextClassifier", "TextPairClassifier", "TokenTagger", "Prediction"]
)
def test_every_type_of_an_attribute_has_a_public_name(name):
    public = {getattr(refsynth, other) for other in NAMES}
    hints = typing.get_type_hints(getattr(refsynth, name))
    assert {kind for hint in hints.values() for kind in types_in(hint)} <= public


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.endswith("Error")))
def test_what_is_wrong_with_a_value_is_a_value_error(name):
    kind = getattr(refsynth, name)
    assert issubclass(kind, ValueError) == issubclass(kind, refsynth.InputError)


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
