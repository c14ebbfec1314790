"""Workbooks as data files: where the header is, what cells say, and files that are none or are made to do harm."""

from __future__ import annotations

import datetime
import zipfile

import pytest

from refsynth.core.errors import DataError
from refsynth.core.sections import Columns
from refsynth.data.io import read_examples
from refsynth.data.rows import BadRow, Row, iter_rows
from refsynth.data.sniff import sniff

xlsxwriter = pytest.importorskip("xlsxwriter")

ROWS = [["Message", "Topic"], ["where is it", "late"], ["lost it", "late"], ["charged twice", "money"], ["wrong bill", "money"]]


def book(path, rows, *, sheets=None, at=0):
    """Write rows to the first sheet, or to those named, and return the path."""
    work = xlsxwriter.Workbook(str(path))
    days, moments = (work.add_format({"num_format": form}) for form in ("yyyy-mm-dd", "yyyy-mm-dd hh:mm"))
    for name, cells, shown in sheets or [("Sheet1", rows, True)]:
        sheet = work.add_worksheet(name)
        if not shown:
            sheet.hide()
        else:
            sheet.activate()
            sheet.set_first_sheet()
        for y, row in enumerate(cells):
            for x, value in enumerate(row):
                if isinstance(value, datetime.datetime):
                    sheet.write_datetime(y + at, x, value, moments)
                elif isinstance(value, datetime.date):
                    sheet.write_datetime(y + at, x, value, days)
                elif value is not None:
                    sheet.write(y + at, x, value)
    work.close()
    return path


def test_a_workbook_is_read_like_any_table(tmp_path):
    path = book(tmp_path / "rows.xlsx", ROWS)
    look = sniff(path)
    assert (look.format, look.text_column, look.label_column) == ("excel", "Message", "Topic")
    assert look.labels == {"late": 2, "money": 2}
    columns = Columns(text="Message", label="Topic")
    read = read_examples(path, labels=["late", "money"], columns=columns)
    assert [example.text for example in read.examples] == [row[0] for row in ROWS[1:]]
    assert next(iter(iter_rows(path, columns=columns))) == Row(1, "where is it", None, "late")


PLACES = {  # what a note says of where rows stand in the sheet
    "one below their numbers": (ROWS, 0, None),
    "a title above": ([["Tickets of May", None], *ROWS], 0, "row 1 is row 3 of the sheet"),
    "empty rows above": (ROWS, 3, "row 1 is row 5 of the sheet"),
    "empty rows between": (
        [*ROWS[:2], [], *ROWS[2:3], [], [], *ROWS[3:]],
        0,
        "row 2 is row 4 of the sheet, row 3 is row 7 of the sheet",
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_it_is_said_where_in_the_sheet_rows_stand(tmp_path, case):
    rows, at, said = PLACES[case]
    path = book(tmp_path / "rows.xlsx", rows, at=at)
    read = read_examples(path, labels=["late", "money"], columns=Columns(text="Message", label="Topic"))
    found = [note for note in read.notes if "of the sheet" in note and "counted" in note]
    assert found == ([f"rows are counted below the header, without empty ones: {said}"] if said else [])


HEADERS = {
    "a title above": [["Tickets of May", None], [], *ROWS],
    "a title and a date above": [["Tickets", "of May"], ["exported", datetime.date(2024, 5, 1)], [], *ROWS],
    "empty rows between": [ROWS[0], [], *ROWS[1:3], [None, None], *ROWS[3:]],
    "an unnamed column": [["Message", "Topic", None], *[[*row, 7] for row in ROWS[1:]]],
    "an unnamed first column": [[None, "Message", "Topic"], *[[n, *row] for n, row in enumerate(ROWS[1:])]],
    "a number as a column's name": [["Message", "Topic", 2024], *[[*row, "x"] for row in ROWS[1:]]],
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_header_is_found(name, tmp_path):
    path = book(tmp_path / "rows.xlsx", HEADERS[name])
    look = sniff(path)
    assert (look.text_column, look.label_column, look.rows) == ("Message", "Topic", 4)
    assert any("above the header" in note for note in look.notes) is ("above" in name)
    assert any("no name" in note for note in look.notes) is ("unnamed" in name)


def test_cells_are_spelled_as_in_other_formats(tmp_path):
    day, moment = datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1, 9, 30)
    values = [1.0, 2.5, True, day, moment, "007"]
    path = book(tmp_path / "rows.xlsx", [["id", "text", "label"], *[[n + 1, 404 + n, value] for n, value in enumerate(values)]])
    found = list(iter_rows(path))
    assert [row.label for row in found] == ["1", "2.5", "true", "2024-05-01", "2024-05-01 09:30:00", "007"]
    assert [(row.id, row.text) for row in found][:2] == [("1", "404"), ("2", "405")]


def test_formulas_are_read_as_what_they_came_to(tmp_path):
    path = tmp_path / "rows.xlsx"
    work = xlsxwriter.Workbook(str(path))
    sheet = work.add_worksheet()
    sheet.write_row(0, 0, ["text", "label"])
    sheet.write_formula(1, 0, '="a"&"b"', None, "ab")
    sheet.write_formula(1, 1, "=1+1", None, 2)
    sheet.write_formula(2, 0, "=1/0", None, "#DIV/0!")
    sheet.write(2, 1, "x")
    work.close()
    found = list(iter_rows(path))
    assert found[0] == Row(1, "ab", None, "2")


def test_the_first_sheet_that_shows_is_read_unless_one_is_named(tmp_path):
    other = [["text", "label"], ["a", "x"], ["b", "y"]]
    path = book(tmp_path / "rows.xlsx", None, sheets=[("Hidden", other, False), ("Inbox", ROWS, True), ("Old", other, True)])
    assert sniff(path).text_column == "Message"
    assert "sheet 'Inbox' is read, of 2" in sniff(path).notes[0]
    assert sniff(path, sheet="Old").labels == {"x": 1, "y": 1}
    assert sniff(path, sheet="Hidden").labels == {"x": 1, "y": 1}
    with pytest.raises(DataError, match=r"no sheet 'inbox'\n  sheets there: Hidden, Inbox, Old\n  did you mean 'Inbox'\?"):
        sniff(path, sheet="inbox")


def test_rows_have_the_number_of_the_row_and_errors_the_line_of_the_sheet(tmp_path):
    path = book(tmp_path / "rows.xlsx", [["a title"], ["text", "label"], ["one", "a"], [], ["two", "b"], ["three", "c"]])
    with pytest.raises(DataError, match=r"row 3: label 'c' is not in task.yaml \(line 6 of the file\)"):
        read_examples(path, labels=["a", "b"])


def test_a_row_beyond_the_limit_is_an_error_of_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr("refsynth.data.excel.ROW_LIMIT", 100)
    found = list(iter_rows(book(tmp_path / "rows.xlsx", [["text", "label"], ["x" * 200, "a"], ["two", "b"]])))
    assert found == [BadRow(1, "longer than 100 characters"), Row(2, "two", None, "b")]


def bomb(path):
    """Write a workbook with cells in the first and the last place of a sheet: a table of 17 thousand million cells."""
    work = xlsxwriter.Workbook(str(path))
    sheet = work.add_worksheet()
    sheet.write(0, 0, "text")
    sheet.write(1_048_575, 16_383, "x")
    work.close()


BAD = {
    "cells far apart": (bomb, "damaged, or larger than"),
    "cut short": (lambda path: path.write_bytes(book(path, ROWS).read_bytes()[:3000]), "damaged"),
    "not a workbook": (lambda path: path.write_bytes(b"text,label\na,b\n"), "damaged workbook"),
    "an archive of something else": (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "b"), "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged workbook"),
    "an empty sheet": (lambda path: book(path, []), "is empty"),
    "ole rubbish": (lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2000), "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_workbook_ends_in_an_error(name, tmp_path):
    write, message = BAD[name]
    path = tmp_path / "rows.xlsx"
    write(path)
    with pytest.raises(DataError, match=message) as caught:
        sniff(path)
    assert "rows.xlsx" in str(caught.value)


def test_a_missing_workbook_is_missing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        sniff(tmp_path / "rows.xlsx")


def test_reading_may_stop_early(tmp_path):
    path = book(tmp_path / "rows.xlsx", [["text", "label"], *[[f"text {n}", "ab"[n % 2]] for n in range(3000)]])
    rows = iter_rows(path)
    assert next(rows).text == "text 0"
    rows.close()


def test_an_open_document_sheet_is_read(tmp_path):
    urn = "urn:oasis:names:tc:opendocument:xmlns"
    names = " ".join(f'xmlns:{name}="{urn}:{name}:1.0"' for name in ("office", "table", "text"))
    typed = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    cells = "".join(f"<table:table-row>{''.join(map(typed.format, row))}</table:table-row>" for row in ROWS)
    sheet = f'<office:spreadsheet><table:table table:name="Inbox">{cells}</table:table></office:spreadsheet>'
    path = tmp_path / "rows.ods"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml", f"<office:document-content {names}><office:body>{sheet}</office:body></office:document-content>"
        )
        archive.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{urn}:manifest:1.0"/>')
    assert sniff(path).labels == {"late": 2, "money": 2}
