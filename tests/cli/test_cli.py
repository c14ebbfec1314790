import io
import json
import subprocess
import sys

import pytest
import typer
from rich.console import Console

import refsynth
from refsynth.cli.app import app
from refsynth.cli.table import show_systems
from refsynth.core.files import read_jsonl
from refsynth.core.hashes import folder_digest
from refsynth.core.intervals import INTERVALS
from refsynth.core.record import recall, remember
from refsynth.core.run import RunFolder
from refsynth.core.types import Metric
from refsynth.evaluation.report import Report
from refsynth.evaluation.sections import FIGURES, Results, System
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run as run_task
from tests.support.commands import call
from tests.support.runs import make_task


def commands(group, path=()):
    group = typer.main.get_command(group) if not path else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    ("path", "command"), list(commands(app)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_with_an_example(path, command):
    assert "example" in (command.help or "").lower(), path


def test_help_and_import_load_nothing_heavy():
    heavy = ("torch", "transformers", "ctranslate2", "matplotlib", "polars", "sklearn")
    code = f"import sys, refsynth, refsynth.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.argv = ['refsynth', 'run', 'task.yaml', '--out', 'out']; import refsynth.cli.app as app; app.main()",
        "import sys, refsynth\ntry: refsynth.TextClassifier\nexcept refsynth.RefsynthError as e: sys.exit(f'error: {e}')",
    ],
)
def test_a_base_install_names_the_extra_that_is_missing(tmp_path, code):
    (tmp_path / "task.yaml").write_text("labels: [late, broken]", "utf-8")
    blind = "import sys; sys.meta_path.insert(0, type('Blind', (), {'find_spec': staticmethod(block)}))"
    block = (
        "def block(name, path=None, target=None):\n"
        "    if name.split('.')[0] in ('torch', 'transformers', 'sklearn', 'scipy', 'polars'):\n"
        "        raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
    )
    done = subprocess.run([sys.executable, "-c", f"{block}\n{blind}\n{code}"], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr and "pip install 'refsynth[train]'" in done.stderr
    assert done.returncode == (4 if "argv" in code else 1)


def test_public_names_are_those_of_all():
    for name in refsynth.__all__:
        assert getattr(refsynth, name) is not None
    with pytest.raises(AttributeError):
        _ = refsynth.nothing


def test_a_run_prints_its_result_as_one_json_object(monkeypatch, capsys, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data")
    (tmp_path / "task.yaml").write_text(json.dumps(task.config.model_dump(mode="json")), "utf-8")
    arguments = ("run", tmp_path / "task.yaml", "--out", tmp_path / "out", "--seed", "1", "--json")
    code, out, err = call(monkeypatch, capsys, *arguments, cache=tiny_cache)
    assert code == 0, err
    told = json.loads(out)
    assert (tmp_path / "out" / "report.html").is_file()
    code, out, _ = call(monkeypatch, capsys, "evaluate", told["bundle"], task.test, "--json")
    assert code == 0
    shipped = next(system for system in told["systems"] if system["shipped"])
    assert json.loads(out)["accuracy"]["value"] == pytest.approx(shipped["accuracy"]["value"])
    code, out, _ = call(monkeypatch, capsys, "trace", tmp_path / "out", "row-1", "--json")
    assert code == 0
    assert json.loads(out)["kind"] == "seed row"


def test_parts_of_a_run_are_done_again_from_its_folder(monkeypatch, capsys, tmp_path, tiny_cache):
    run = tmp_path / "out"
    code, _, err = call(monkeypatch, capsys, "synthesize", run, cache=tiny_cache)
    assert (code, "not a run folder" in err) == (2, True)
    task = make_task(tmp_path / "data", gate={"folds": 4})
    with RunFolder(run).lock():
        remember(task, RunFolder(run), skip_bad=False)
    assert recall(run).task.labels == task.labels == ("late", "broken")  # in the order of the user, not the alphabet's
    code, out, err = call(monkeypatch, capsys, "synthesize", run, "--json", cache=tiny_cache)
    assert code == 0, err
    assert sum(json.loads(out)["drafts"].values()) > 0
    code, out, err = call(monkeypatch, capsys, "filter", run)
    assert (code, "has no step 'judge' for these settings" in err, f"--out {run}" in err) == (2, True, True), err
    run_task(task, run, store=ModelStore(tiny_cache))
    before = {path.name: path.stat().st_mtime_ns for path in (run / "steps").iterdir()}
    kept = tmp_path / "kept.jsonl"
    with monkeypatch.context() as untrained:
        for learner in (FrozenLearner, TfidfLearner):
            untrained.setattr(learner, "fit", None)
        code, out, err = call(monkeypatch, capsys, "filter", run, "--set", "filter.agreement=0", "--out", kept, "--json")
    assert code == 0, err
    after = {path.name: path.stat().st_mtime_ns for path in (run / "steps").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"select"}
    code, _, err = call(monkeypatch, capsys, "filter", run, "--set", "training.epochs=3")
    assert (code, "changes filter.* only" in err) == (2, True)
    by_reason = json.loads(out)["by_reason"]
    assert by_reason["kept"] == len(list(read_jsonl(kept))) and "other class" not in by_reason
    code, _, err = call(monkeypatch, capsys, "filter", run, "--set", "filter.agreement=0", "--out", tmp_path)
    assert (code, "cannot be written (Is a directory)" in err, "--out" in err) == (2, True, True)
    before, nowhere = folder_digest(run), tmp_path / "no" / "kept.jsonl"
    code, _, err = call(monkeypatch, capsys, "filter", run, "--set", "filter.agreement=0.9", "--out", nowhere)
    assert (code, "cannot be written (No such file" in err, folder_digest(run)) == (2, True, before)  # before anything is done
    code, _, err = call(monkeypatch, capsys, "reinforce", run)
    assert (code, "--set reinforce.iterations=8" in err) == (2, True)
    changes = ("--set", "reinforce={iterations: 2, policy: bandit, prompts: 2, group_size: 2}")
    code, out, err = call(monkeypatch, capsys, "reinforce", run, *changes, "--json")
    assert code == 0, err
    assert {half: len(turns) for half, turns in json.loads(out).items()} == {"first": 2, "second": 2}
    for part, given in (("synthesize", changes), ("filter", ())):
        code, out, err = call(monkeypatch, capsys, part, run, *given)
        assert code == 0, err
        assert "drafts" in out
    code, out, _ = call(monkeypatch, capsys, "reinforce", run, *changes)
    assert "reward" in out and "second" in out


@pytest.mark.parametrize("kind", [("accuracy", "macro_f1"), ("span_f1", "precision", "recall", "macro_f1", "exact_match")])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_of_results_keeps_all_figures_at_any_width(kind, width):
    whole = Metric("accuracy", 1.0, 0.997, 1.0, 1000)
    names = ("majority", "frozen encoder + LR", "shipped bundle (cascade)")
    systems = tuple(
        System(name=name, **dict.fromkeys(kind, whole), texts_per_second=26_273.0, size_mb=124.1, shipped=name == names[-1])
        for name in names
    )
    results = Results(systems=systems, source="test file", n=1000, file="rows [1].csv")
    console = Console(width=width, file=io.StringIO(), soft_wrap=True)
    report = Report(title="t", task="classify", language="en", date="d", version="0", labels={}, results=results)
    show_systems(console, report)
    title, method, *lines = console.file.getvalue().splitlines()[:-1]
    assert method == INTERVALS
    assert title == "1,000 rows of rows [1].csv; 95% intervals; speed on this machine"
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    for name in names:
        said = " ".join(line for line in lines if line.startswith(name))
        assert (said.count("100.0 [99.7-100.0]"), said.count("26,273"), said.count("124.1")) == (len(kind), 1, 1)
    assert all(sum(FIGURES[field] in line for line in lines) == 1 for field in kind)
    assert width < 200 or len(lines) == 1 + len(names)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "none.yaml", "--out", "out"], 2, "refsynth init"),
        (["run"], 2, "task"),
        (["rnu"], 2, "No such command"),
        (["init", "new", "--from", "rows.csv", "--separator", ""], 2, "--separator: is empty"),
        (["evaluate", "nowhere", "rows.csv", "--separator", ""], 2, "--separator: is empty"),
        (["predict", "nowhere", "rows.csv"], 2, "nowhere"),
        (["evaluate", "nowhere", "rows.csv"], 2, "nowhere"),
        (["trace", "nowhere", "row-1"], 2, "not a run folder"),
        (["models", "fetch", "gpt"], 4, "no embedded model"),
    ],
)
def test_wrong_calls_end_with_their_code_and_one_message(monkeypatch, capsys, tmp_path, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    found, _, err = call(monkeypatch, capsys, *arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_a_missing_model_names_the_command_that_fetches_it(monkeypatch, capsys, tmp_path):
    task = make_task(tmp_path / "data")
    (tmp_path / "task.yaml").write_text(json.dumps(task.config.model_dump(mode="json")), "utf-8")
    code, _, err = call(monkeypatch, capsys, "run", tmp_path / "task.yaml", "--out", tmp_path / "out", cache=tmp_path / "empty")
    assert code == 4
    assert "refsynth models fetch" in err


def test_an_interrupt_keeps_what_is_finished(monkeypatch, capsys, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    task = make_task(tmp_path / "data")
    (tmp_path / "task.yaml").write_text(json.dumps(task.config.model_dump(mode="json")), "utf-8")
    monkeypatch.setattr("refsynth.pipeline.begin.read_rows", interrupt)
    code, _, err = call(monkeypatch, capsys, "run", tmp_path / "task.yaml", "--out", tmp_path / "out")
    assert code == 130
    assert "same command" in err
