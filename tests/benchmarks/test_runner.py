"""Every bench is a module with a question, a budget, cells, a table and checks; the command line runs them by name."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import bench, tables
from benchmarks.__main__ import about, app, main
from benchmarks.bench import BENCHES, Options, Work, load, measured
from benchmarks.cells import Cells
from benchmarks.figures import at_least, figure
from refsynth.core.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_asks_a_question_and_states_its_minutes(name, tmp_path):
    question, minutes = about(name)
    assert "?" in question
    module = load(name)
    assert module.BUDGET == minutes > 0
    assert isinstance(module.TIMED, bool)
    none = Cells(tmp_path / "none.jsonl")
    assert not any(check["ok"] for check in module.checks(none))  # nothing measured is nothing met
    assert isinstance(module.table(none), str)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "benchmarks" / "results").glob("*.jsonl"))])
def test_cells_that_are_kept_are_still_read(name):
    if name.startswith("constants-"):
        return
    module, cells = load(name), Cells(ROOT / "benchmarks" / "results" / f"{name}.jsonl")
    assert cells.rows
    assert module.table(cells).count("\n") > 2
    checks = module.checks(cells)
    assert checks and all({"name", "value", "unit", "n", "ok"} <= set(check) for check in checks)


class Toy:
    """A bench of two parts."""

    BUDGET, TIMED = 1, True

    def __init__(self):
        self.calls = []

    def cells(self, options):
        for part in options.parts(("one", "two"), quick=("two",)):
            yield Work({"set": part}, lambda part=part: self.calls.append(part) or [{"seconds": 1.0}])

    def table(self, cells):
        print("a library prints")
        return f"{len(cells.rows)} cells"

    def checks(self, cells):
        return [at_least("cells", figure([len(cells.rows)], "cells", over="runs"), 2)]


def test_only_what_is_missing_is_measured_and_told(tmp_path):
    toy, said = Toy(), []
    for options in ({"quick": True}, {}, {}, {"only": ("one",), "again": True}):
        found = measured(toy, "toy", Options(results=tmp_path, say=said.append, **options))
    assert toy.calls == ["two", "one", "one"]
    assert said == ["two (1 s)", "one (1 s)", "one (1 s)"]
    assert (found["table"], [one["set"] for one in found["rows"]]) == ("2 cells", ["one", "one"])  # of what was chosen
    assert measured(toy, "toy", Options(results=tmp_path))["table"] == "3 cells"


def test_sides_in_turn_are_kept_together_or_not_at_all(tmp_path):
    """A ratio within a repeat is none between a side of today and one of yesterday."""
    runs = []

    def sides():
        runs.append(len(runs))
        for system in ("ours", "theirs"):
            yield {"system": system, "run": runs[-1]}
            if len(runs) == 1:
                raise KeyboardInterrupt

    toy = Toy()
    toy.cells = lambda options: [Work({"set": "one"}, sides, ("ours", "theirs"), turns=True)]
    with pytest.raises(KeyboardInterrupt):
        measured(toy, "toy", Options(results=tmp_path))
    assert [(one["system"], one["run"]) for one in measured(toy, "toy", Options(results=tmp_path))["rows"]] == [
        ("ours", 1),
        ("theirs", 1),
    ]


def test_times_of_another_machine_are_measured_anew(tmp_path, monkeypatch):
    toy = Toy()
    for machine in ("here", "there", "here"):
        monkeypatch.setattr(bench, "describe_machine", lambda machine=machine: machine)
        rows = measured(toy, "toy", Options(results=tmp_path))["rows"]
        assert {row["machine"] for row in rows} == {machine}
    assert len(toy.calls) == 4


def test_half_a_line_of_a_bench_that_was_killed_is_measured_again(tmp_path):
    toy, path = Toy(), tmp_path / "toy.jsonl"
    measured(toy, "toy", Options(results=tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert len(measured(toy, "toy", Options(results=tmp_path))["rows"]) == 2
    assert toy.calls == ["one", "two", "two"]
    assert path.read_bytes() == whole
    path.write_bytes(b"{}\nno cell\n" + whole)
    with pytest.raises(InputError, match=r"toy\.jsonl line 2"):
        Cells(path)


def test_an_interrupted_bench_says_that_it_goes_on(tmp_path, monkeypatch):
    def stopped(name, options):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.__main__.run", stopped)
    done = CliRunner().invoke(app, ["active", "--results", str(tmp_path)])
    assert done.exit_code == 130
    assert "Run the same command to go on" in done.stderr


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run the command line, and check how it ends and what it says."""

    def run(words, code, said):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr().err
        assert end.value.code == code, shown
        assert said in shown

    return run


def test_a_package_that_is_not_installed_is_named_with_the_remedy(monkeypatch, ended, tmp_path):
    def missing(name):
        raise ModuleNotFoundError("No module named 'setfit'", name="setfit")

    monkeypatch.setattr(bench, "load", missing)
    ended(
        ["fewshot", "--results", str(tmp_path)],
        4,
        "'setfit' is not installed\n  pip install -e '.[dev]' -r benchmarks/requirements.txt",
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["fewshto"], 2, "fewshot"),
        (["active", "--seeds", "0"], 2, "seeds"),
        (["active", "--data", "nowhere"], 2, "nowhere/banking77: no such data set"),
        (["serve", "--only", "hord"], 2, "did you mean 'hoard'?"),
        (["serve", "--bundle", "nowhere"], 2, "nowhere"),
        (["contract", "--only", "banking77"], 2, "banking77: not in this bench"),
        (["serve-core", "--only", "process"], 2, "did you mean 'processes'?"),
        (["active", "--bundle", "."], 2, "active serves nothing"),
    ],
)
def test_wrong_input_is_named_in_a_line(words, code, said, tmp_path, ended):
    ended(words if len(words) == 1 else [*words, "--results", str(tmp_path)], code, said)


@pytest.mark.parametrize(
    ("label", "results", "said"),
    [("a", "file", "file"), ("c", "folder", "toy/snips: label 'c' is not in labels.json")],
)
def test_what_cannot_be_read_or_written_is_named_in_a_line(label, results, said, tmp_path, ended):
    folder = tmp_path / "toy" / "snips"
    folder.mkdir(parents=True)
    (tmp_path / "file").write_text("no folder")
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": "t", "label": each}) + "\n" for each in (label, "b")))
    (folder / "labels.json").write_text(json.dumps({"a": "first", "b": "second"}))
    words = ["--data", str(tmp_path / "toy"), "--results", str(tmp_path / results), "--only", "snips", "--seeds", "1"]
    ended(["crowds", *words], 2, said)


def test_the_list_of_benches_loads_no_torch():
    code = "import sys; from benchmarks.__main__ import app; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_bench_prints_its_table_or_json(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "load", lambda name: Toy())
    run = CliRunner()
    plain = run.invoke(app, ["active", "--results", str(tmp_path)])
    assert "2 cells" in plain.output and "ok     cells: 2 cells (at least 2, aim 2)" in plain.output
    found = json.loads(run.invoke(app, ["active", "--results", str(tmp_path), "--json"]).stdout)
    assert {"name", "machine", "rows", "checks", "table"} == set(found)


def test_the_tables_of_the_documents_are_those_of_the_cells():
    assert tables.stale(ROOT) == [], "run `make tables`"
    marked = "".join(path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
    assert sorted(name for name, _ in tables.MARKED.findall(marked)) == sorted(tables.TABLES)
    assert marked.count("<!-- table: ") == marked.count("<!-- /table -->") == len(tables.TABLES)


def test_cells_of_quick_runs_and_of_another_machine_are_in_no_table(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    for name in tables.TABLES:
        cells = Cells(tmp_path / "benchmarks" / "results" / f"{name}.jsonl")
        for one in cells.rows[-3:]:
            cells.add(one | {"quick": True, "rows": 10**6, "accuracy": 0.0, "macro_f1": 0.0, "train": 1, "run": 10**9})
            if load(name).TIMED:
                cells.add(one | {"machine": "another", "run": 10**9})
    assert tables.stale(tmp_path) == []


def test_a_table_that_was_changed_by_hand_is_found_and_printed_again(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    right = (ROOT / "README.md").read_text("utf-8")
    figure = re.search(r"SetFit \| ([\d.]+)", right)
    assert figure is not None
    (tmp_path / "README.md").write_text(right.replace(f"SetFit | {figure[1]}", "SetFit | 99.9"), "utf-8")
    assert tables.stale(tmp_path) == tables.write(tmp_path) == [tmp_path / "README.md"]
    assert (tmp_path / "README.md").read_text("utf-8") == right
    assert tables.stale(tmp_path) == []
    (tmp_path / "docs" / "other.md").write_text("<!-- table: nothing -->\n<!-- /table -->\n", "utf-8")
    with pytest.raises(InputError, match="no table 'nothing'"):
        tables.stale(tmp_path)


def test_the_wheel_has_all_of_the_package_and_no_benchmarks(tmp_path):
    for name in ("src", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "results"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    # What builds it is no dependency: where what is here is too old, pip fetches another, as it does for `make install`.
    here = ["--no-build-isolation"] if int(version("setuptools").partition(".")[0]) >= 80 else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *here, "-w", str(tmp_path), "."]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name == "refsynth/cli/app.py" for name in names)
    assert [name for name in names if "bench" in name.lower()] == []
    there = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "refsynth").rglob("*") if path.is_file()}
    assert {name for name in there if "__pycache__" not in name} <= set(names)  # pages, templates, examples
