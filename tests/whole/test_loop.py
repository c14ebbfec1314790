"""The loop of docs/how-to/labels.md, by command: answers and feedback come back as labels for the next run."""

import csv
import json
import re
import shlex
from pathlib import Path

from python_calamine import CalamineWorkbook

from refsynth.core.files import read_jsonl
from refsynth.core.sections import Columns
from refsynth.data.rows import open_rows
from refsynth.data.write import write_table
from refsynth.service.monitor.record import Feedback, Predicted, PredictionRecord
from tests.support.commands import call
from tests.support.runs import make_task

DOC = (Path(__file__).parents[2] / "docs" / "how-to" / "labels.md").read_text("utf-8")


def shown_loop():
    section = DOC.partition("## The whole loop")[2]
    return re.search(r"```\n(.*?)```", section, re.DOTALL)[1].splitlines()


def write_csv(path, rows):
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def make_record(path):
    record = PredictionRecord.open(path, redact=str)
    texts = ["=the parcel came late", "my cup is in pieces", "no idea"]
    record.add_predictions([Predicted("q", n, "late", 0.5, n == 2, "1", "int8", text=text) for n, text in enumerate(texts)])
    record.add_feedback([Feedback("q", 0, "late"), Feedback("q", 1, "broken")])
    record.close()


def test_of_a_file_that_the_model_is_sure_of_any_text_may_be_asked_for(monkeypatch, capsys, tmp_path, tiny_cache):
    monkeypatch.chdir(tmp_path)
    task = make_task(tmp_path, synthesis={"drafts": 0}, learners=["tfidf"])
    (tmp_path / "task.yaml").write_text(json.dumps(task.config.model_dump(mode="json")), "utf-8")
    code, _, err = call(monkeypatch, capsys, "run", "task.yaml", "--out", "r", cache=tiny_cache)
    assert code == 0, err
    answered = {"label": "late", "confidence": 0.99}
    for name, unsure, said in (("sure", 0, "8 of 30 texts"), ("one", 1, "1 of 1 texts")):
        rows = [{"number": 7000 + n, "text": f"unheard of {n}"} | answered | {"unsure": n < unsure} for n in range(30)]
        write_table(tmp_path / f"{name}.xlsx", None, rows)
        asking = ("label", "next", f"{name}.xlsx", "--run", "r", "-n", 8, "--out", f"to-{name}.xlsx")
        code, _, err = call(monkeypatch, capsys, *asking, cache=tiny_cache)
        assert code == 0 and said in err, err
        assert ("unsure of none of them" in err) == (not unsure)
        with open_rows(tmp_path / f"to-{name}.xlsx", columns=Columns()) as reading:
            assert "confidence" not in reading.heads
        sheet = CalamineWorkbook.from_path(tmp_path / f"to-{name}.xlsx").get_sheet_by_index(0).to_python()
        assert isinstance(sheet[1][sheet[0].index("number")], float)  # a number stays one


def test_the_loop_in_the_docs_closes(monkeypatch, capsys, tmp_path, tiny_cache):
    monkeypatch.chdir(tmp_path)
    task = make_task(tmp_path / "my-task", synthesis={"drafts": 0}, learners=["tfidf"])
    tree = task.config.model_dump(mode="json")
    tree["data"] |= {"train": "train.jsonl", "test": None, "more": "more.jsonl"}
    (tmp_path / "my-task" / "task.yaml").write_text(json.dumps(tree), "utf-8")
    make_record(tmp_path / "record.sqlite")
    write_csv(tmp_path / "inbox.csv", [{"number": n, "text": f"=unheard of {n}", "when": "1.2."} for n in range(30)])
    lines = [shlex.split(line)[1:] for line in shown_loop()]
    code, _, err = call(monkeypatch, capsys, *lines[-1], cache=tiny_cache)
    assert code == 0, err
    for line in lines:
        code, out, err = call(monkeypatch, capsys, *line, cache=tiny_cache)
        assert code == 0, (line, err)
        if "scored.csv" in line and line[0] == "predict":
            scored = read_csv(tmp_path / "scored.csv")
            assert [*scored[0]] == ["number", "text", "when", "label", "confidence", "unsure"] and len(scored) == 30
            write_csv(tmp_path / "scored.csv", [row | {"unsure": str(place < 25).upper()} for place, row in enumerate(scored)])
        if "to-label.csv" in line and line[1] == "next":
            assert "labels: late, broken" in out
            assert "20 of 25 texts (0 are labeled already, 5 that the model is sure of)" in err
            forms = read_csv(tmp_path / "to-label.csv")
            write_csv(tmp_path / "to-label.csv", [row | {"label": "late"} for row in forms[:19]] + forms[19:])
        if "asked.csv" in line and line[1] == "next":
            assert [row["text"] for row in read_csv(tmp_path / "to-label-too.csv")] == ["no idea"]
    added = [row["text"] for row in read_jsonl(tmp_path / "my-task" / "more.jsonl")]
    assert added[:19] == [row["text"].removeprefix("'") for row in forms[:19]]
    assert all(text.startswith("=unheard") for text in added[:19])
    assert added[19:] == ["=the parcel came late", "my cup is in pieces"]
    rows = list(read_jsonl(tmp_path / "runs" / "tickets" / "steps" / "rows" / "examples.jsonl"))
    assert {row["text"] for row in rows} >= {*added}
