"""Rows to be filled in: what the user's file says is kept, what a model said is not; scored files; texts that were skipped."""

import csv
import json
import zipfile

import pytest
from python_calamine import CalamineWorkbook

from refsynth.core.errors import InputError
from refsynth.core.sections import Columns
from refsynth.data.io import read_examples
from refsynth.data.rows import open_rows
from refsynth.labels.forms import SUFFIXES, LabelForm, Scores, is_form, key_of, remember_skips, skips_of

LABELS = ("billing", "=outage")
COLUMNS = Columns(text="Message", label="Topic")


def filled(tmp_path, content, *, suffix=".csv", name="pool.csv", columns=COLUMNS, otherwise=None):
    """Return the path of the form for all rows of a pool."""
    (tmp_path / name).write_text(content, "utf-8")
    with open_rows(tmp_path / name, columns=columns, otherwise=otherwise) as reading:
        rows = list(reading.rows)
    form = LabelForm.of(reading, COLUMNS, LABELS, several=False)
    form.write(tmp_path / f"ask{suffix}", [form.fill(row, why="margin: doubt", score=0.51234) for row in rows])
    return tmp_path / f"ask{suffix}"


def read_csv(path, delimiter=","):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def rows_of(path, columns=COLUMNS):
    with open_rows(path, columns=columns) as reading:
        return list(reading.rows)


def test_the_users_columns_id_order_and_delimiter_stay(tmp_path):
    path = filled(tmp_path, "id;When;Message;score\n007;1.2.;=1+1;high\n008;2.2.;hello, you;low\n")
    rows = read_csv(path, ";")
    assert list(rows[0]) == ["id", "When", "Message", "score", "Topic", "choices", "reason", "score_2"]
    assert list(rows[0].values()) == ["007", "1.2.", "'=1+1", "high", "", "billing | =outage", "margin: doubt", "0.5123"]
    assert is_form(rows[0])


@pytest.mark.parametrize(
    ("content", "hidden"),
    [
        ("Message,label,confidence,unsure\na,billing,0.4,true\n", {"label", "confidence", "unsure"}),
        ("Message,label,predicted_label,confidence,unsure\na,mine,b,0.4,true\n", {"predicted_label", "confidence", "unsure"}),
        (
            "Message,unsure,confidence,label,predicted_unsure\na,no,0.4,b,TRUE\n",
            {"unsure", "confidence", "label", "predicted_unsure"},
        ),
    ],
)
def test_what_a_model_said_is_left_out(tmp_path, content, hidden):
    path = filled(tmp_path, content)
    names = {*content.splitlines()[0].split(",")}
    assert {*read_csv(path)[0]} == names - hidden | {"id", "Topic", "choices", "reason", "score"}
    rows = rows_of(tmp_path / "pool.csv")
    assert Scores.of(rows[0].values).chosen(rows) == rows


@pytest.mark.parametrize("names", [["text"], ["text", "label", "confidence"], ["text", "unsure"], ["text", "label"]])
def test_other_files_are_not_taken_for_scored_ones(names):
    assert Scores.of(names) is None


def test_only_unsure_rows_are_chosen(tmp_path):
    (tmp_path / "s.jsonl").write_text(
        "".join(
            json.dumps({"text": str(n), "confidence": 1, "unsure": said}) + "\n"
            for n, said in enumerate([True, False, None, "TRUE"])
        )
    )
    rows = rows_of(tmp_path / "s.jsonl", Columns())
    assert [row.text for row in Scores.of(rows[0].values).chosen(rows)] == ["0", "3"]


def test_a_label_column_that_is_there_stays_in_its_place_and_is_empty(tmp_path):
    rows = read_csv(filled(tmp_path, "Topic,Message\nold,a\n"))
    assert list(rows[0])[:3] == ["id", "Topic", "Message"] and rows[0]["Topic"] == ""


def test_one_text_a_line_gets_the_column_of_the_task(tmp_path):
    rows = read_csv(filled(tmp_path, "one\ntwo\n", name="pool.txt"))
    assert [(row["id"], row["Message"]) for row in rows] == [("pool-1", "one"), ("pool-2", "two")]


def test_a_text_column_of_another_name_keeps_it(tmp_path):
    path = filled(tmp_path, '{"text": "one"}\n', name="pool.jsonl", otherwise=Columns())
    assert read_csv(path)[0]["text"] == "one"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_form_comes_back_as_it_went(tmp_path, suffix):
    path = filled(tmp_path, "Message\n=1+1\nnine\n", suffix=suffix)
    with pytest.raises(InputError, match="there already"):
        LabelForm.write(LabelForm.of(open_pool(tmp_path), COLUMNS, LABELS, several=False), path, [])
    if suffix == ".xlsx":
        rows = CalamineWorkbook.from_path(path).get_sheet_by_name("choices").to_python()
        assert rows == [["billing"], ["=outage"]]
        sheet = zipfile.ZipFile(path).read("xl/worksheets/sheet1.xml").decode()
        assert "choices!$A$1:$A$2" in sheet and 'sqref="C2:C3"' in sheet
        return
    rows = [row.values for row in rows_of(path)]
    answered = tmp_path / "answers.jsonl"
    answered.write_text("".join(json.dumps({**row, "Topic": "=outage"}) + "\n" for row in rows))
    loaded = read_examples(answered, labels=LABELS, columns=COLUMNS, least_labels=1)
    assert [(row.text, row.label) for row in loaded.examples] == [("=1+1", "=outage"), ("nine", "=outage")]


def open_pool(tmp_path):
    with open_rows(tmp_path / "pool.csv", columns=COLUMNS) as reading:
        return reading


def test_a_form_in_a_format_that_nobody_fills_in_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.csv, \.tsv, \.xlsx, \.jsonl"):
        filled(tmp_path, "Message\na\n", suffix=".parquet")


def test_skips_are_kept_as_hashes(tmp_path):
    assert skips_of(tmp_path / "label") == set()
    assert remember_skips(tmp_path / "label", ["A text", "a  TEXT", "b"]) == 2
    assert remember_skips(tmp_path / "label", ["c"]) == 1
    assert skips_of(tmp_path / "label") == {key_of(text) for text in ("a text", "b", "c")}
    assert "text" not in (tmp_path / "label" / "skips.jsonl").read_text()
