"""The commands of the tutorial run, one after another, on the files that it names; with tiny models and fewer drafts."""

import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.commands import call

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial" / "first-model.md").read_text("utf-8")
SMALLER = {
    "reference: embedded": "reference: echo",
    "drafts: 600": "drafts: 60",
    "[tfidf, frozen, contrastive]": "[tfidf, frozen]",
}


def shown(program):
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith(f"{program} ")]


def make_smaller(path):
    text = path.read_text("utf-8")
    for usual, small in SMALLER.items():
        assert usual in text
        text = text.replace(usual, small)
    path.write_text(text, "utf-8")


def fill_in(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        forms = list(csv.DictReader(stream))
    assert len(forms) == 20 and {form["intent"] for form in forms} == {""}
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        table = csv.DictWriter(stream, forms[0])
        table.writeheader()
        table.writerows(form | {"intent": "order_status"} for form in forms)


@pytest.mark.slow
def test_the_tutorial_runs(monkeypatch, capsys, tmp_path, tiny_cache):
    monkeypatch.chdir(tmp_path)
    for source, target in shown("cp"):
        shutil.copy(ROOT / source, target)
    lines = shown("refsynth")
    assert [line[0] for line in lines] == ["init", "run", "predict", "explain", "evaluate", "label", "label", "run"]
    for line in lines:
        code, _, err = call(monkeypatch, capsys, *line, cache=tiny_cache)
        assert code == 0, (line, err)
        if line[0] == "init":
            make_smaller(tmp_path / "my-task" / "task.yaml")
        if line[:2] == ["label", "next"]:
            fill_in(tmp_path / "to-label.csv")
    assert (tmp_path / "runs" / "tickets" / "report.html").exists()
    assert (tmp_path / "runs" / "tickets" / "held_out.csv").exists()
    with (tmp_path / "tickets.more.jsonl").open(encoding="utf-8") as stream:
        assert len(stream.readlines()) == 20


def test_the_rows_that_it_shows_are_in_its_file():
    first = re.search(r"```\nmessage,intent\n(.*?)```", PAGE, re.DOTALL)[1]
    assert first in (ROOT / "src" / "refsynth" / "examples" / "tickets" / "train.csv").read_text("utf-8")
