"""Where a person finds a row: its row in a spreadsheet, or its line, and what the user calls it."""

import csv
import json

import pytest
import xlsxwriter
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.core.errors import DataError
from refsynth.core.sections import Columns
from refsynth.data.account import RowPlace, describe_skipped
from refsynth.data.columns import guess_id, own_id
from refsynth.data.io import read_examples
from refsynth.data.rows import open_rows
from tests.support.serving import save_bundle


def write_workbook(path, above=()):
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet()
        for number, cells in enumerate([*above, ["Ticket", "text", "label"], ["T-1", "one", "a"], ["T-2", "two", "b"]]):
            sheet.write_row(number, 0, cells)


FILES = {
    "plain.csv": ("text,label\none,a\ntwo,b\n", [2, 3]),
    "quoted line breaks.csv": ('text,label\n"one\nand\nmore",a\ntwo,b\n"three\nx",a\nfour,b\n', [2, 3, 4, 5]),
    "blank lines.csv": ("text,label\n\none,a\n\n\ntwo,b\n", [3, 6]),
    "a line that names the delimiter.csv": ("sep=;\ntext;label\none;a\ntwo;b\n", [2, 3]),
    "a bad row.csv": ('text,label\n"one\nx",a\nbroken\ntwo,b\n', [2, 4]),
    "lines.jsonl": ('{"text": "one", "label": "a"}\n\n{"text": "two", "label": "b"}\n', [1, 3]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_row_is_where_the_spreadsheet_shows_it(tmp_path, name):
    content, places = FILES[name]
    (tmp_path / name).write_text(content, "utf-8")
    loaded = read_examples(tmp_path / name, labels="ab", skip_bad=True)
    assert [loaded.places[row.id] for row in loaded.examples] == [RowPlace(name, place, "") for place in places]
    with open_rows(tmp_path / name, columns=Columns()) as reading:
        read = [row.place for row in reading.rows]
    assert [place for place in read if place in places] == places


@pytest.mark.parametrize(("above", "places"), [([], [2, 3]), ([["Mails of May"], []], [4, 5])])
def test_a_row_of_a_workbook_is_that_of_the_sheet(tmp_path, above, places):
    write_workbook(tmp_path / "rows.xlsx", above)
    loaded = read_examples(tmp_path / "rows.xlsx", labels="ab", columns=Columns(id="Ticket"))
    assert list(loaded.places.values()) == [RowPlace("rows.xlsx", places[0], "T-1"), RowPlace("rows.xlsx", places[1], "T-2")]
    few = read_examples(tmp_path / "rows.xlsx", labels="ac", skip_bad=True, least_labels=1).skipped
    assert describe_skipped(few) == (f"1 row dropped: unknown label (sheet row {places[1]})",)


@pytest.mark.parametrize(
    ("values", "named", "found"),
    [
        ({"id": 7, "ID": 8}, None, 7),
        ({"ID": 8}, None, 8),
        ({" Id ": "x"}, None, "x"),
        ({"Ticket": "T-1", "id": 7}, "Ticket", "T-1"),
        ({"text": "a"}, "Ticket", None),
        ({"identity": "a"}, None, None),
    ],
)
def test_what_the_user_calls_a_row(values, named, found):
    assert own_id(values, Columns(id=named)) == found


@pytest.mark.parametrize(
    ("columns", "rows", "found"),
    [
        (("text", "ticket_id", "when"), [("a", "1", "x"), ("b", "2", "y")], "ticket_id"),
        (("Ticket", "text"), [("T-1", "a"), ("T-2", "b")], "Ticket"),
        (("text", "Vorgang-Nr"), [("a", "1"), ("b", "2")], "Vorgang-Nr"),
        (("Kundin", "text"), [("Ann Lee", "a"), ("Bo Lee", "b")], None),  # names with spaces
        (("text", "id"), [("a", "1"), ("b", "1")], None),  # not of one row
        (("text", "id"), [("a", "1"), ("b", "")], None),
        (("text", "price"), [("a", "1"), ("b", "2")], None),
        (("text",), [], None),
    ],
)
def test_the_likely_column_of_it(columns, rows, found):
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    assert guess_id(columns, records, taken={"text"}) == found


def test_init_writes_it_and_runs_list_rows_by_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_workbook(tmp_path / "rows.xlsx")
    said = CliRunner().invoke(app, ["init", "t", "--from", "rows.xlsx"])
    assert said.exit_code == 0 and "row ids: Ticket" in said.output
    assert "id: Ticket" in (tmp_path / "t" / "task.yaml").read_text("utf-8")


def test_unreadable_rows_are_listed_where_the_spreadsheet_shows_them(tmp_path):
    save_bundle(tmp_path / "bundle")
    (tmp_path / "in.csv").write_text('ID,text\nA,"w1\nw2"\nB,\n\nC,w3\nbad\n', "utf-8")
    done = CliRunner().invoke(
        app, ["predict", str(tmp_path / "bundle"), str(tmp_path / "in.csv"), "--out", str(tmp_path / "o.csv")]
    )
    assert done.exit_code == 0, done.output
    with (tmp_path / "o.errors.csv").open(encoding="utf-8-sig", newline="") as stream:
        listed = [(row["row"], row["sheet_row"], row["own_id"]) for row in csv.DictReader(stream)]
    assert listed == [("2", "3", "B"), ("4", "6", "")]


SHARED = {
    "text and label": (Columns(text="a", label="a"), "'a' is named as text and as label"),
    "a part of the text": (Columns(text="a + b", label="b"), "'b' is named as text and as label"),
    "a part of the labels": (Columns(text="a", label="b + a"), "'a' is named as text and as label"),
    "both of a pair": (Columns(text="a", pair="a", label="b"), "'a' is named as text and as pair"),
    "pair and label": (Columns(text="a", pair="b", label="b"), "'b' is named as pair and as label"),
    "label and weight": (Columns(text="a", label="b", weight="b"), "'b' is named as label and as weight"),
}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("name", SHARED)
def test_a_column_is_one_thing(tmp_path, name, suffix):
    columns, message = SHARED[name]
    rows = [{"a": "1", "b": "0"}, {"a": "0", "b": "1"}]
    text = "a,b\n1,0\n0,1\n" if suffix == ".csv" else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / f"rows{suffix}").write_text(text)
    separator = "|" if " + " in columns.label else None
    with pytest.raises(DataError, match=message) as caught:
        read_examples(
            tmp_path / f"rows{suffix}", labels=["0", "1", "a", "b"], columns=columns, separator=separator, skip_bad=True
        )
    assert "data.columns." in str(caught.value)


def test_a_column_that_has_the_name_of_two_is_itself(tmp_path):
    (tmp_path / "rows.csv").write_text("a + b,b\none,x\ntwo,y\n")
    assert len(read_examples(tmp_path / "rows.csv", labels="xy", columns=Columns(text="a + b", label="b")).examples) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "bundle", "rows.csv", "--text", "label", "--label", "label"],
        ["init", "t", "--from", "rows.csv", "--text-column", "label", "--label-column", "label"],
    ],
)
def test_commands_refuse_it_too(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    save_bundle(tmp_path / "bundle")
    (tmp_path / "rows.csv").write_text("text,label\nw1,billing\nw2,delivery\nw3,billing\n")
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, DataError) and "named as text and as label" in str(error)


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("rows.csv", ["--sheet", "x"], "--sheet x: rows.csv is a CSV file"),
        ("rows.jsonl", ["--sheet", "x"], "--sheet x: rows.jsonl is JSON"),
        ("rows.xlsx", ["--delimiter", ";"], "--delimiter ;: rows.xlsx is a workbook"),
        ("rows.xlsx", ["--encoding", "cp1252"], "--encoding cp1252: rows.xlsx is a workbook"),
        ("rows.jsonl", ["--delimiter", ";"], "--delimiter ;: rows.jsonl is JSON"),
    ],
)
@pytest.mark.parametrize("command", [["predict", "bundle"], ["evaluate", "bundle"], ["init", "t", "--from"]])
def test_an_option_that_has_no_effect_is_refused(tmp_path, monkeypatch, command, file, options, message):
    monkeypatch.chdir(tmp_path)
    save_bundle(tmp_path / "bundle")
    write_workbook(tmp_path / "rows.xlsx")
    (tmp_path / "rows.csv").write_text("text,label\nw1,billing\nw2,delivery\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "w1", "label": "billing"}\n{"text": "w2", "label": "delivery"}\n')
    error = CliRunner().invoke(app, [*command, file, *options]).exception
    assert isinstance(error, DataError) and message in str(error) and "leave --" in str(error)
