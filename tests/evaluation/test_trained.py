"""`evaluate` on rows that the bundle learned from says so, with how many, and what it is without them."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.core.files import read_jsonl


@pytest.fixture
def done(small_run):
    return small_run


def evaluated(bundle, rows, folder):
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    told, plain = (CliRunner().invoke(app, ["evaluate", str(bundle), str(file), *more]) for more in (["--json"], []))
    assert (told.exit_code, plain.exit_code) == (0, 0), told.output
    return json.loads(told.stdout), plain.stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (12, 0, "It was trained on all 12 rows: the figures say nothing about new texts."),
        (1, 0, "It was trained on the only row"),
        (5, 9, "It was trained on 5 of 14 rows: on the 9 other rows accuracy is"),
        (1, 1, "It was trained on 1 of 2 rows"),
        (0, 20, "It was trained on none of these rows; near-duplicates were not looked for."),
    ],
)
def test_rows_of_the_training_file_are_counted(done, tmp_path, old, new, said):
    task = done.evidence.task
    train, test = ([*read_jsonl(path)] for path in (task.train, task.test))
    loud = [row | {"text": f"  {row['text'].upper()}"} for row in train[:old]]  # the same text all the same
    figures, shown = evaluated(done.bundle, [*loud, *test[:new]], tmp_path)
    found = figures["in_training"]
    assert found["rows"] == old
    assert (found["new"] or {"n": 0})["n"] == new
    assert said in found["said"]
    assert found["said"] in " ".join(shown.split())


def test_where_the_run_is_not_known_that_is_said(done, tmp_path):
    """A bundle alone, in another run's folder, or in one whose rows were read anew: nobody knows what it learned from."""
    rows = [*read_jsonl(done.evidence.task.train)]
    alone, other = shutil.copytree(done.bundle, tmp_path / "alone"), shutil.copytree(done.evidence.folder.path, tmp_path / "run")
    step = other / "steps" / "rows" / "step.json"
    step.write_text(step.read_text("utf-8").replace(json.loads(step.read_text("utf-8"))["hash"], "0" * 64), "utf-8")
    broken = shutil.copytree(done.evidence.folder.path, tmp_path / "broken")
    (broken / "steps" / "rows" / "step.json").write_text("[", "utf-8")
    for bundle in (alone, other / "bundle", broken / "bundle"):
        figures, shown = evaluated(bundle, rows, tmp_path)
        assert (figures["in_training"]["rows"], figures["accuracy"]["n"]) == (None, 12)
        assert "could not be checked" in shown
    figures, _ = evaluated(shutil.copytree(done.evidence.folder.path, tmp_path / "moved") / "bundle", rows, tmp_path)
    assert figures["in_training"]["rows"] == 12
