"""`refsynth record` in an app of its own."""

import json

import polars
import pytest
import typer
from python_calamine import CalamineWorkbook
from typer.testing import CliRunner

from refsynth.cli import record
from refsynth.core.errors import InputError, RecordError
from refsynth.core.sections import Columns
from refsynth.data.rows import open_rows
from refsynth.data.write import SUFFIXES
from refsynth.service.monitor.record import Feedback, Predicted, PredictionRecord

app = typer.Typer()
app.add_typer(record.record, name="record")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSYNTH_RECORD", str(tmp_path / "record.sqlite"))

    def invoke(command, *options):
        return CliRunner().invoke(app, ["record", command, *options])

    return invoke


@pytest.fixture
def filled(tmp_path, run):
    assert run("upgrade").exit_code == 0
    opened = PredictionRecord.open(tmp_path / "record.sqlite", redact=str)
    said = [Predicted("q", n, "ab"[n % 2], 0.5, n == 0, "1", "int8", text=f"text {n}", none=n == 2) for n in range(4)]
    opened.add_predictions(said)
    opened.add_feedback([Feedback("q", 0, "a"), Feedback("q", 1, "a"), Feedback("gone", 0, "a")])
    opened.close()


def test_show(run, filled):
    assert json.loads(run("show", "--json").stdout) == {
        "predictions": {"a": 2, "b": 2},
        "abstained": 1,
        "none": 1,
        "feedback": 3,
        "compared": 2,
        "agreed": 1,
    }
    text = run("show").stdout
    assert "4 predictions, 1 unsure, 1 none of these" in text
    assert "1 of 2 agree" in text


def test_export(run, filled, tmp_path):
    done = run("export", "--out", str(tmp_path / "f.parquet"))
    assert "2 rows in" in done.stderr
    assert "1 more have no text" in done.stderr
    table = polars.read_parquet(tmp_path / "f.parquet")
    assert table.select("text", "label").rows() == [("text 0", "a"), ("text 1", "a")]
    assert json.loads(run("export", "--out", str(tmp_path / "f.parquet"), "--json").stdout)["rows"] == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_export_writes_what_the_suffix_says(run, filled, tmp_path, suffix):
    file = tmp_path / f"f{suffix}"
    assert run("export", "--out", str(file)).exit_code == 0
    if suffix == ".xlsx":
        rows = [row[:2] for row in CalamineWorkbook.from_path(file).get_sheet_by_index(0).to_python()[1:]]
    else:
        with open_rows(file, columns=Columns()) as reading:
            rows = [[row.text, row.label] for row in reading.rows]
    assert rows == [["text 0", "a"], ["text 1", "a"]]


def test_export_of_what_the_model_was_unsure_of(run, tmp_path):
    assert run("upgrade").exit_code == 0
    opened = PredictionRecord.open(tmp_path / "record.sqlite", redact=str)
    opened.add_predictions([Predicted("q", n, "a", 0.5, n < 3, "1", "int8", text=f"=text {n}") for n in range(4)])
    opened.add_feedback([Feedback("q", 0, "a")])
    opened.close()
    done = run("export", "--out", str(tmp_path / "u.csv"), "--unsure")
    assert "2 rows in" in done.stderr
    with open_rows(tmp_path / "u.csv", columns=Columns()) as reading:
        assert [(row.text, row.label, row.values["predicted"]) for row in reading.rows] == [
            ("=text 1", None, "a"),
            ("=text 2", None, "a"),
        ]
    assert "'=text 1" in (tmp_path / "u.csv").read_text()


@pytest.mark.parametrize(("suffix", "why"), [(".txt", r"\.csv, .*\.parquet"), ("", r"\.csv, .*\.parquet"), (".xls", r"\.xlsx")])
def test_export_to_what_cannot_be_written_is_refused(run, filled, tmp_path, suffix, why):
    done = run("export", "--out", str(tmp_path / f"f{suffix}"))
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=why):
        raise done.exception


def test_purge(run, filled):
    assert json.loads(run("purge", "--days", "1", "--json").stdout) == {"predictions": 0, "feedback": 0, "erased": True}
    assert "deleted 4 predictions and 3 feedback" in run("purge", "--days", "0").stderr


def test_nothing_is_made_by_looking(run, tmp_path):
    assert isinstance(run("show").exception, RecordError)
    assert list(tmp_path.iterdir()) == []
