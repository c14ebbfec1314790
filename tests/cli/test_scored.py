"""`predict --out`: the user's table with what the model says beside it; columns, names and files that are found."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import polars
import pytest
from python_calamine import CalamineWorkbook

from refsynth.cli.opening import bundle_of, run_of
from refsynth.cli.scored import names_for, scored_row
from refsynth.core.errors import BundleError, DataError, InputError
from refsynth.core.types import Entity, Prediction
from refsynth.data.rows import Row
from refsynth.data.write import SUFFIXES, write_table
from tests.support.predicting import lines, run, save_spotter

INBOX = """id;Message;foo;label;\n1;"=HYPERLINK(""x"")";b;old;\n2;my card;c;-5;x\n3;;d;+1;\nbad;row\n5;a loan;e;;z\n"""


def table(path: Path) -> list[list[object]]:
    """Return the heads and rows of a written file."""
    if path.suffix == ".xlsx":
        return CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    if path.suffix == ".parquet":
        frame = polars.read_parquet(path)
        return [frame.columns, *map(list, frame.rows())]
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [list(rows[0]), *(list(row.values()) for row in rows)]
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ";"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_spotter(tmp_path_factory.mktemp("bundles") / "b")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_column_is_kept_in_every_format(folder: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in.csv").write_text(INBOX, "utf-8")
    out = tmp_path / f"scored{suffix}"
    result = run("predict", folder, tmp_path / "in.csv", "--out", out)
    assert result.exit_code == 0
    assert "5 rows, column Message (as in training)" in result.stdout
    assert "your 5 columns + predicted_label, confidence, unsure      1 unsure, 2 rows could not be read" in result.stdout
    head, *rows = table(out)
    assert head == ["id", "Message", "foo", "label", "", "predicted_label", "confidence", "unsure"]
    formula = '=HYPERLINK("x")'
    assert rows[0][:5] == ["1", f"'{formula}" if suffix in (".csv", ".tsv") else formula, "b", "old", ""]
    assert rows[1][:6] == ["2", "my card", "c", "-5", "x", "card"] and rows[4][5] == "loan"
    assert str(rows[1][7]).lower() == "false" and float(str(rows[1][6])) > 0.5
    assert rows[2][:4] == ["3", "", "d", "+1"] and rows[2][5] in ("", None)
    assert set(rows[3]) <= {"", None} and len(rows) == 5
    listed = list(csv.DictReader((tmp_path / "scored.errors.csv").read_text("utf-8-sig").splitlines()))
    assert [row["row"] for row in listed] == ["3", "4"] and listed[0]["error"] == "empty text"


def test_a_workbook_comes_back_with_its_numbers_days_and_codes(folder: Path, tmp_path: Path) -> None:
    rows = [
        {
            "Nr": 1,
            "Message": "a card",
            "When": date(2026, 3, 4),
            "Paid": True,
            "Code": "007",
            "Long": "12345678901234567",
            "x": 2.5,
        },
        {"Nr": 2, "Message": "=1+1", "When": datetime(2026, 3, 4, 5, 6), "Paid": False, "Code": "1.50.2", "Long": "", "x": -5},
    ]
    write_table(tmp_path / "in.xlsx", list(rows[0]), rows)
    result = run("predict", folder, tmp_path / "in.xlsx", "--out", tmp_path / "s.xlsx")
    assert "2 rows, column Message (as in training)" in result.stdout
    head, *found = table(tmp_path / "s.xlsx")
    assert head == [*rows[0], "label", "confidence", "unsure"]
    assert [line[:7] for line in found] == [list(row.values()) for row in rows]
    run("predict", folder, tmp_path / "s.xlsx", "--out", tmp_path / "again.csv")
    assert (
        (tmp_path / "again.csv")
        .read_text("utf-8-sig")
        .splitlines()[2]
        .startswith("2,'=1+1,2026-03-04 05:06:00,false,1.50.2,,-5,")
    )


TEXTS = ("2026-02-22T17:10:00", "2026-02-22 17:10:00", "2026-02-22", "2.50", "12", "TRUE", "1e5")


def test_a_cell_of_a_workbook_that_is_a_text_stays_that_text(folder: Path, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(len(TEXTS))]
    rows = [{"Message": "a card", **dict(zip(names, TEXTS, strict=True)), "n": 12, "d": date(2026, 2, 22), "y": True}]
    write_table(tmp_path / "in.xlsx", list(rows[0]), rows)
    assert run("predict", folder, tmp_path / "in.xlsx", "--out", tmp_path / "s.xlsx").exit_code == 0
    _, found = table(tmp_path / "s.xlsx")
    assert found[: len(rows[0])] == [*rows[0].values()]
    assert [type(cell) for cell in found[1 : len(TEXTS) + 1]] == [str] * len(TEXTS)


def test_standard_input_gets_a_table_too(folder: Path, tmp_path: Path) -> None:
    result = run("predict", folder, "-", "--out", tmp_path / "s.csv", stdin="n;Message\n1;card\n2;loan\n")
    assert "standard input: 2 rows, column Message (as in training)" in result.stdout
    assert (tmp_path / "s.csv").read_text("utf-8-sig").splitlines()[0] == "n;Message;label;confidence;unsure"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_output_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("card\n" * 2000)
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "refsynth", "predict", str(folder), str(tmp_path / "in.txt")]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: standard output: cannot be written (No space left on device)"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_no_list_of_errors_of_an_earlier_time_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('text\ncard\n""\n', "utf-8")
    run("predict", folder, tmp_path / "in.csv", "--out", tmp_path / "s.csv")
    assert (tmp_path / "s.errors.csv").exists()
    (tmp_path / "in.csv").write_text("text\ncard\n", "utf-8")
    assert "(in training: Message)" in run("predict", folder, tmp_path / "in.csv", "--out", tmp_path / "s.csv").stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "s.csv"]


@pytest.mark.parametrize(
    ("taken", "names"),
    [
        (["a"], ("label", "confidence", "unsure")),
        (["label"], ("predicted_label", "confidence", "unsure")),
        (["LABEL", "Unsure"], ("predicted_label", "confidence", "predicted_unsure")),
        (["label", "predicted_label"], ("predicted_label_2", "confidence", "unsure")),
    ],
)
def test_columns_of_the_same_name_never_meet(taken: list[str], names: tuple[str, ...]) -> None:
    assert names_for(taken, spans=False) == names


@pytest.mark.parametrize(
    ("answer", "said", "confidence"),
    [
        (Prediction("a", {"a": 0.81234567, "b": 0.2}), "a", 0.8123),
        (Prediction("a + b", {"a": 0.9, "b": 0.8, "c": 0.5}, labels=("a", "b")), "a|b", 0.36),
        (Prediction("(none)", {"a": 0.1, "b": 0.2}, labels=()), "(none)", 0.72),
        (Prediction("", {"per": 0.1}, entities=(), certainty=0.6), [], 0.6),
        (
            Prediction("0-3 per", {"per": 0.9}, entities=(Entity(0, 3, "per", 0.9),), certainty=0.85),
            [{"start": 0, "end": 3, "label": "per", "confidence": 0.9, "text": "Ann"}],
            0.85,
        ),
    ],
)
def test_what_is_said_is_a_cell(answer: Prediction, said: object, confidence: float) -> None:
    row = Row(1, "Ann sat", None, None, {"text": " Ann sat "})
    assert scored_row(row, answer, ("x", "y", "z")) == {"text": " Ann sat ", "x": said, "y": confidence, "z": False}


def test_rows_that_name_their_own_columns_keep_them_all(folder: Path, tmp_path: Path) -> None:
    rows = [{"Message": "card", "n": 5}, {"Message": "loan", "label": "mine", "extra": [1, {"a": None}]}, {"Message": 5}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    run("predict", folder, tmp_path / "in.jsonl", "--out", tmp_path / "s.jsonl")
    found = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text("utf-8").splitlines()]
    assert found[0].items() >= (rows[0] | {"label": "card"}).items()
    assert (found[1]["label"], found[1]["label_"], found[1]["extra"]) == ("loan", "mine", [1, {"a": None}])
    assert (found[2]["Message"], found[2]["label"]) == (5, None)
    run("predict", folder, tmp_path / "in.jsonl", "--out", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as stream:
        again = list(csv.DictReader(stream))
    assert list(again[0]) == ["Message", "n", "label", "confidence", "unsure", "label_", "extra"]
    assert [row["n"] for row in again] == ["5", "", ""] and again[1]["extra"] == '[1, {"a": null}]'


@pytest.mark.parametrize(("encoding", "delimiter"), [("cp1252", ";"), ("utf-16", "\t"), ("utf-8-sig", "|"), ("utf-8", ",")])
def test_delimiter_and_encoding_are_as_read(folder: Path, tmp_path: Path, encoding: str, delimiter: str) -> None:
    text = "où êtes-vous allés cet été, à Orléans ou à Béziers ?"
    rows = [["Message", "n"], [text, "1"], ["une carte oubliée à Nîmes", "2"]]
    with (tmp_path / "in.csv").open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    run("predict", folder, tmp_path / "in.csv", "--out", tmp_path / "s.csv", "--encoding", encoding)
    with (tmp_path / "s.csv").open(encoding=encoding, newline="") as stream:
        assert [row[:2] for row in csv.reader(stream, delimiter=delimiter)] == rows


def test_what_is_read_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("Message\ncard\n", "utf-8")
    (tmp_path / "in.errors.csv").write_text("Message\ncard\n", "utf-8")
    for source, out in (("in.csv", "in.csv"), ("in.errors.csv", "in.xlsx")):
        with pytest.raises(InputError, match="is the input file"):
            run("predict", folder, tmp_path / source, "--out", tmp_path / out)
    for out, why in (("s.doc", r"\.csv, .*"), ("none/s.csv", "No such file"), (".", "unknown format")):
        with pytest.raises(InputError, match=why):
            run("predict", folder, tmp_path / "in.csv", "--out", tmp_path / out)
    assert (tmp_path / "in.csv").read_text("utf-8") == "Message\ncard\n"


def test_a_file_without_a_readable_row_is_refused_with_its_first(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"body": "card"}\n' * 3, "utf-8")
    with pytest.raises(DataError, match=r"none of 3 rows can be read; row 1: no key 'Message'; keys there: body"):
        run("predict", folder, tmp_path / "in.jsonl", "--out", tmp_path / "s.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("head", "options", "found"),
    [
        ("Message,n", (), ["card"]),
        ("text,n", (), ["card"]),
        ("text,Message", (), ["loan"]),
        ("text,Message", ("--text", "text"), ["card"]),
        ("text,Message", ("--text-column", "text"), ["card"]),
        ("message,n", ("--text", "message"), ["card"]),
    ],
)
def test_the_column_of_training_is_remembered(
    folder: Path, tmp_path: Path, head: str, options: tuple[str, ...], found: list[str]
) -> None:
    (tmp_path / "in.csv").write_text(f"{head}\ncard,loan\n", "utf-8")
    for source, stdin in ((tmp_path / "in.csv", ""), ("-", (tmp_path / "in.csv").read_text("utf-8"))):
        assert [row["label"] for row in lines(run("predict", folder, source, *options, stdin=stdin))] == found


def test_a_column_that_is_not_there_is_named_with_those_that_are(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("body,n\ncard,1\n", "utf-8")
    for options in ((), ("--text", "text")):
        with pytest.raises(DataError, match=r"no column '(Message|text)'\n  columns there: body, n\n"):
            run("predict", folder, tmp_path / "in.csv", *options)


def test_evaluate_takes_both_columns_of_training(folder: Path, tmp_path: Path) -> None:
    for head in ("Message,Topic", "text,label", "Message,label", "text,Topic"):
        (tmp_path / "in.csv").write_text(f"{head}\nmy card,card\na loan,loan\n", "utf-8")
        assert json.loads(run("evaluate", folder, tmp_path / "in.csv", "--json").stdout)["evaluated"] == 2
    (tmp_path / "in.csv").write_text("text,kind\nmy card,card\n", "utf-8")
    with pytest.raises(DataError, match=r"now 'Topic'; columns there: text, kind"):
        run("evaluate", folder, tmp_path / "in.csv")


def test_a_run_is_as_good_as_its_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r" / "steps").mkdir(parents=True)
    with pytest.raises(InputError, match="the run is not finished"):
        bundle_of(tmp_path / "r")
    (tmp_path / "r" / "bundle").symlink_to(folder)
    assert bundle_of(tmp_path / "r") == tmp_path / "r" / "bundle" and bundle_of(folder) == folder
    assert run_of(tmp_path / "r") == tmp_path / "r" and run_of(folder) is None
    assert lines(run("predict", tmp_path / "r", stdin="card\n"))[0]["label"] == "card"
    with pytest.raises(BundleError, match="no such folder"):
        run("predict", tmp_path / "none", stdin="card\n")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-16"])
def test_anything_is_printed_whatever_the_terminal(folder: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "card", "id": "\\ud800 \\ud83d\\ude00"}\n', "utf-8")
    for arguments in (("predict", folder, tmp_path / "in.jsonl"), ("predict", folder, tmp_path / "😀.csv")):
        command = [sys.executable, "-m", "refsynth", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False)
        assert b"Traceback" not in done.stderr
    assert "😀.csv: no such file" in done.stderr.decode("utf-8") and done.returncode == 2
    first = subprocess.run(
        [sys.executable, "-m", "refsynth", "predict", str(folder), str(tmp_path / "in.jsonl")],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=True,
    )
    assert json.loads(first.stdout.decode("utf-8"))["id"] == "\ud800 😀"
