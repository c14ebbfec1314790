"""Tables that are written: no formula in them, nothing lost, there whole or not at all; and standard input as a table."""

import csv
import io
import json
import os
import re
import zipfile
from datetime import date
from pathlib import Path

import polars
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

import refsynth
from refsynth.core.errors import DataError, InputError
from refsynth.core.sections import Columns
from refsynth.data.account import SkippedRow, write_skipped
from refsynth.data.cells import harmless, restored, risky
from refsynth.data.rows import BadRow, Row, iter_rows, open_rows
from refsynth.data.sheet import MOST_CHARACTERS
from refsynth.data.table import distinct
from refsynth.data.write import SUFFIXES, Style, write_table

FORMULAS = [
    "=1+1",
    "+A1",
    "-A1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    '=HYPERLINK("http://x","y")',
    "=",
    "-",
    "+1+cmd|' /C'!A0",
    "＝1",
]
HARMLESS = ["", "a=1", "-5", "+49 %", "-1,234.5", "1e5", "+1", "-3%", "'", "'a", " =1"]

any_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text("'=+-@\t\r\n1a", max_size=5)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe(text):
    assert harmless(text) == "'" + text
    assert restored(harmless(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_text_stay(text):
    assert harmless(text) == restored(text) == text


@given(any_text)
@example("'=1")
@example("''-5")
def test_any_text_survives_and_no_cell_is_a_formula(text):
    assert restored(harmless(text)) == text
    assert not risky(harmless(text)) or harmless(text).startswith("'")


def cells(path):
    """Return the table of a file as lists of what stands there."""
    if path.suffix == ".xlsx":
        return CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@given(rows=st.lists(st.tuples(any_text.filter(str.strip), any_text), min_size=1, max_size=4))
@example(rows=[("'", "0'")])
@example(rows=[("=1'", "'")])
def test_what_is_written_is_read_again(tmp_path_factory, suffix, rows):
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    write_table(path, ("text", "=note"), [{"text": text, "=note": note} for text, note in rows])
    assert all(not risky(cell) or cell.startswith("'") for line in cells(path) for cell in line)
    with open_rows(path, columns=Columns()) as reading:
        found = [row.values for row in reading.rows]
        assert reading.heads == {"text": "text", "=note": "=note"}
    assert [(row["text"], row["=note"]) for row in found] == rows


ROWS = [{"text": text, "n": number} for number, text in enumerate(FORMULAS)]


def test_an_excel_file_has_text_and_no_formula(tmp_path):
    write_table(tmp_path / "t.xlsx", ("text", "n"), [*ROWS, {"text": "http://x.example", "n": 2**60}])
    book = CalamineWorkbook.from_path(tmp_path / "t.xlsx").get_sheet_by_index(0).to_python()
    assert [row[0].replace("\r\n", "\n").replace("_x000D_", "\r") for row in book[1:]] == [*FORMULAS, "http://x.example"]
    assert book[-1][1] == str(2**60)
    sheet = zipfile.ZipFile(tmp_path / "t.xlsx").read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet and "hyperlink" not in sheet


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_keeps_every_value(tmp_path, suffix):
    rows = [
        {"text": "one", "n": 1, "flag": True, "day": date(2026, 3, 4), "list": ["a"], "half": None},
        {"text": "two \ud800", "n": 2.5, "later": "x"},
    ]
    path = tmp_path / f"t{suffix}"
    write_table(path, None, iter(rows))
    if suffix == ".jsonl":
        first, second = map(json.loads, path.read_text("utf-8").splitlines())
        assert first == rows[0] | {"day": "2026-03-04"} and second == rows[1]
        return
    if suffix == ".parquet":
        frame = polars.read_parquet(path)
        assert frame.columns == ["text", "n", "flag", "day", "list", "half", "later"]
        assert frame.rows() == [
            ("one", 1.0, True, date(2026, 3, 4), '["a"]', None, None),
            ("two \\ud800", 2.5, None, None, None, None, "x"),
        ]
        return
    head, first, second = cells(path)
    assert head == ["text", "n", "flag", "day", "list", "half", "later"]
    wanted = ["one", 1.0, True, date(2026, 3, 4), '["a"]', "", ""] if suffix == ".xlsx" else ["one", "1", "true", "2026-03-04"]
    assert first[: len(wanted)] == wanted and second[0] == "two \\ud800" and second[-1] == "x"


def test_a_column_of_changing_type_is_kept_as_text(tmp_path):
    rows = ({"v": number if number < 15_000 else "x", "late": None if number < 12_000 else number} for number in range(20_000))
    write_table(tmp_path / "t.parquet", ("v", "late"), rows)
    frame = polars.read_parquet(tmp_path / "t.parquet")
    assert frame["v"][14_999] == "14999" and frame["v"][15_000] == "x" and frame["late"][19_999] == 19_999


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_table(path, ("text",), [{"text": "old"}])
    before = path.read_bytes()

    def rows():
        yield {"text": "new"}
        raise OSError(28, os.strerror(28))

    for columns in (("text",), None):
        with pytest.raises(OSError, match="No space"):
            write_table(path, columns, rows())
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path, suffix):
    with pytest.raises(OSError, match="No such file"):
        write_table(tmp_path / "none" / f"t{suffix}", ("text",), [])


def test_what_excel_cannot_hold_is_said_and_not_cut(tmp_path):
    with pytest.raises(DataError, match="row 2: a cell of 32,768 characters"):
        write_table(tmp_path / "t.xlsx", ("text",), [{"text": "x"}, {"text": "y" * (MOST_CHARACTERS + 1)}])
    with pytest.raises(InputError, match=r"\.csv, .*\.parquet"):
        write_table(tmp_path / "t.doc", ("text",), [])


def test_letters_that_an_encoding_lacks_are_escaped_not_lost(tmp_path):
    write_table(tmp_path / "t.csv", ("text",), [{"text": "é 😀"}], style=Style(encoding="cp1252"))
    assert (tmp_path / "t.csv").read_text("cp1252") == "text\né \\U0001f600\n"


@pytest.mark.parametrize(
    ("names", "found"),
    [(["a", "a", "A"], ("a", "a_2", "A")), (["", "", "_2"], ("", "_2", "_2_2")), (["a_2", "a", "a"], ("a_2", "a", "a_3"))],
)
def test_columns_of_one_name_are_told_apart(names, found):
    assert distinct(names) == found


FRENCH = "Ça va très bien à Orléans, où êtes-vous allés cet été ?"
STREAMS = [
    (b"", "text", []),
    (b"\n \n", "message", []),
    (b"text\nhello\n", "text", ["hello"]),
    (b"hello, world\nbye, all\n", "text", ["hello, world", "bye, all"]),
    (b"id,text\n1,hello\n", "text", ["hello"]),
    (b'"id";"text"\n1;"a;b"\n', "text", ["a;b"]),
    ("\ufeffid\ttext\n1\té\n".encode(), "text", ["é"]),
    ("id,text\n1,é\n".encode("utf-16"), "text", ["é"]),
    (b"id,message\n1,hello\n", "message", ["hello"]),
    (b'{"message": "hello"}\n', "message", ["hello"]),
    (f"{FRENCH}\n".encode("cp1252"), "text", [FRENCH]),
    (b'text\n"=1+1"\n', "text", ["=1+1"]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "column", "texts"), STREAMS)
def test_a_stream_is_read_as_a_file_is(data, column, texts):
    found = list(iter_rows(io.BytesIO(data), columns=Columns(text=column)))
    assert [row.text for row in found if isinstance(row, Row)] == texts and len(found) == len(texts)


REFUSED = [
    (b'[{"text": "a"}]', "text", "one JSON array"),
    (b"id,body\n1,hello\n", "text", "no column 'text'"),
    (b"id,body\n1,hello\n", "message", "no column 'message'"),
    (b"PK\x03\x04rest of a workbook", "text", "an Excel workbook"),
    (b"PAR1rest", "text", "Parquet"),
    (b"\x01\x02\x03\x04" * 100, "text", "binary"),
]


@pytest.mark.parametrize(("data", "column", "why"), REFUSED)
def test_a_stream_is_refused_as_a_file_is(data, column, why):
    with pytest.raises(DataError, match=why):
        list(iter_rows(io.BytesIO(data), columns=Columns(text=column)))


def test_a_bad_row_of_a_stream_has_its_place():
    with open_rows(io.BytesIO(b"id,text\n1,a\n2\n3,\n4,d\n"), columns=Columns()) as reading:
        found = list(reading.rows)
    assert [isinstance(row, BadRow) for row in found] == [False, True, True, False]
    assert found[2].values == {"id": "3", "text": ""}


def test_every_table_is_written_in_one_place():
    """A writer of its own would write formulas, or half a file."""
    source = Path(refsynth.__file__).parent
    own = re.compile(r"csv\.(writer|DictWriter)|\.write_(csv|excel)\(|\.to_(csv|excel)\(|xlsxwriter\.")
    found = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if own.search(path.read_text("utf-8"))}
    assert found == {"data/write.py", "data/sheet.py"}


def test_lists_of_rows_are_no_formulas(tmp_path):
    write_skipped(tmp_path / "skipped.csv", [SkippedRow(1, "unknown label", "=cmd()"), SkippedRow(2, "conflict", "-x")])
    assert [line[2] for line in cells(tmp_path / "skipped.csv")] == ["detail", "'=cmd()", "'-x"]
