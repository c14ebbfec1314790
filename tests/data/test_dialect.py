"""CSV as programs write it: quotes that are none, escapes, Excel's first line, line ends and encodings of old machines."""

from __future__ import annotations

import pytest

from refsynth.core.errors import DataError
from refsynth.data.formats import open_table
from refsynth.data.io import read_examples
from refsynth.data.rows import BadRow, iter_rows
from refsynth.data.sniff import sniff

LABELS = ["good", "bad"]
HELLO, BYE = "\u4f60\u597d\u5417\u670b\u53cb", "\u518d\u89c1\u4e86\u670b\u53cb"


def put(folder, content, name="rows.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path, **options):
    return [row.message if isinstance(row, BadRow) else row.text for row in iter_rows(path, **options)]


def lines(*rows):
    return "\n".join(rows) + "\n"


SWALLOWED = {
    "tab, text first": (
        "rows.tsv",
        lines(
            "text\tlabel", '"It is fine.\tgood', 'I liked it."\tgood', "nice\tgood", '"Dull.\tbad', 'I left."\tbad', "slow\tbad"
        ),
    ),
    "comma, label first": (
        "rows.csv",
        lines("label,text", 'good,"It is fine.', 'good,I liked it."', "good,nice", 'bad,"Dull.', 'bad,I left."', "bad,slow"),
    ),
    "three lines in one": (
        "rows.tsv",
        lines("text\tlabel", '"It is fine.\tgood', "and\tbad", 'I liked it."\tgood', "nice\tgood", "slow\tbad", "dull\tbad"),
    ),
    "between two columns": (
        "rows.tsv",
        lines(
            "id\tlabel\ttext",
            '1\tgood\t"Fine',
            '2\tgood\tliked"',
            "3\tgood\tnice",
            "4\tbad\tslow",
            '5\tbad\t"dull"',
            "6\tbad\tno",
        ),
    ),
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_a_quote_at_the_start_of_a_line_swallows_no_rows(name, tmp_path):
    file, content = SWALLOWED[name]
    path = put(tmp_path, content, file)
    read = read_examples(path, labels=LABELS)
    assert read.rows == content.count("\n") - 1
    assert len(read.examples) == read.rows
    assert not any("\n" in example.text or "\t" in example.text for example in read.examples)
    assert any("quotes are read as characters" in note for note in read.notes)
    assert sniff(path).rows == read.rows
    assert len(texts(path)) == read.rows


SPANNING = {
    "a text over lines": lines(
        "text,label", '"Hello,', 'please help",good', "fine,good", "slow,bad", '"It is dull', 'and slow",bad'
    ),
    "with the delimiter in each line": lines(
        "text,label", '"Hello, all', 'please, help",good', "fine,good", "slow,bad", "dull,bad"
    ),
    "the same greeting": lines(
        "text,label",
        '"Hi, team',
        'refund it",good',
        '"Hi, team',
        'no refund",good',
        "fine,good",
        "slow,bad",
        '"Hi, team',
        'bad",bad',
    ),
    "label first": lines("label,text", 'good,"fine', 'as wine, really"', "bad,slow", "good,nice", "bad,dull"),
}


@pytest.mark.parametrize("name", SPANNING)
def test_a_text_over_several_lines_stays_one(name, tmp_path):
    read = read_examples(put(tmp_path, SPANNING[name]), labels=LABELS)
    assert not read.skipped
    assert not any("quotes" in note for note in read.notes)


def test_a_row_that_may_be_swallowed_among_texts_over_lines_is_an_error_with_a_remedy(tmp_path):
    content = 'text,label\n"over\nlines",good\n"a start,good\nan end",good\nfine,good\nslow,bad\n'
    path = put(tmp_path, content)
    with pytest.raises(DataError, match=r"row 2: a quote .* opens here and closes on line 5.*data.quoting: none"):
        read_examples(path, labels=LABELS)
    assert len(read_examples(path, labels=LABELS, quoting="standard", skip_bad=True).examples) == 4
    assert read_examples(path, labels=LABELS, quoting="none", skip_bad=True).rows == 6


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('"Best" pan ever\tgood', '"Best" pan ever'),
        ('"never closed\tgood', '"never closed'),
        ('5" wide\tgood', '5" wide'),
        ('"all of it"\tgood', "all of it"),
        ('"she said ""no"""\tgood', 'she said "no"'),
    ],
)
def test_quotes_are_characters_where_it_is_said(line, text, tmp_path):
    path = put(tmp_path, f"text\tlabel\n{line}\nslow\tbad\n", "rows.tsv")
    assert [example.text for example in read_examples(path, labels=LABELS, quoting="none").examples] == [text, "slow"]


DIALECTS = {
    "sep= of Excel": (b"sep=;\r\ntext;label\r\none, two;good\r\nthree;bad\r\n", ";", ["one, two", "three"]),
    "sep= with a mark": ("\ufeffsep=;\ntext;label\none;good\nthree;bad\n".encode(), ";", ["one", "three"]),
    "sep= of a tab": (b"sep=\t\ntext\tlabel\none\tgood\nthree\tbad\n", "\t", ["one", "three"]),
    "sep= in UTF-16": ("sep=;\r\ntext;label\r\none;good\r\nthree;bad\r\n".encode("utf-16"), ";", ["one", "three"]),
    "a space after the delimiter": (b'"text", "label"\n"one, two", "good"\n"three", "bad"\n', ",", ["one, two", "three"]),
    "backslash before quotes": (
        b'text,label\n"one \\"two\\", three",good\n"four \\"five\\"",bad\n',
        ",",
        ['one "two", three', 'four "five"'],
    ),
    "single quotes": (b"text,label\n'one, two','good'\n'three','bad'\n", ",", ["one, two", "three"]),
    "line ends of the classic Mac": (b"text,label\rone,good\rtwo,bad\r", ",", ["one", "two"]),
    "an apostrophe is no quote": (b"text,label\n'tis one,good\ntwo',bad\n", ",", ["'tis one", "two'"]),
    "a backslash is one": (b'text,label\nC:\\new,good\n"D:\\\\old, two",bad\n', ",", ["C:\\new", "D:\\\\old, two"]),
    "UTF-16 of Chinese without a mark": (f"text,label\n{HELLO},good\n{BYE},bad\n".encode("utf-16-le"), ",", [HELLO, BYE]),
    "UTF-16 the other way": (
        f"text,label\n{HELLO * 300},good\n{BYE * 300},bad\n".encode("utf-16-be"),
        ",",
        [HELLO * 300, BYE * 300],
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_are_found(name, tmp_path):
    content, delimiter, expected = DIALECTS[name]
    path = put(tmp_path, content)
    read = read_examples(path, labels=LABELS)
    assert (read.delimiter, [example.text for example in read.examples]) == (delimiter, expected)
    assert texts(path) == expected


def test_a_delimiter_that_is_named_comes_before_the_files_own_line(tmp_path):
    path = put(tmp_path, "sep=;\ntext|label\none;two|good\nthree|bad\n")
    assert [example.text for example in read_examples(path, labels=LABELS, delimiter="|").examples] == ["one;two", "three"]
    with pytest.raises(DataError, match="is empty below the line sep=;"):
        sniff(put(tmp_path, "sep=;\n"))


@pytest.mark.parametrize(
    ("content", "encoding", "guessed"),
    [
        ("text,label\rcaf\u00e9 \u00fcber na\u00efve,good\rtwo,bad\r".encode("mac-roman"), "mac-roman", True),
        ("text,label\ncaf\u00e9 \u00fcber na\u00efve,good\ntwo,bad\n".encode("cp437"), None, True),
        ("text,label\ncaf\u00e9,good\ntwo,bad\n".encode(), "utf-8", False),
        ("text,label\ncaf\u00e9,good\ntwo,bad\n".encode("utf-16"), "utf-16", False),
    ],
)
def test_an_encoding_that_is_a_guess_is_called_one(content, encoding, guessed, tmp_path):
    path = put(tmp_path, content)
    look = sniff(path)
    assert encoding in (None, look.encoding)
    assert any("is a guess" in note for note in look.notes) is guessed
    assert not any("is a guess" in note for note in sniff(path, encoding=look.encoding).notes)


def test_nul_bytes_in_ascii_are_not_taken_for_utf16(tmp_path):
    path = put(tmp_path, b"text,label\none\0,good\ntwo,bad\n" + b"some more text,good\nand more,bad\n" * 20)
    with open_table(path) as table:
        assert table.encoding == "utf-8"


def test_a_sentence_without_end_is_an_error_of_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr("refsynth.data.conll.ROW_LIMIT", 1000)
    path = put(tmp_path, "Ann B-person\n\n" + "word O\n" * 500 + "\nOslo B-place\n", "rows.conll")
    with open_table(path) as table:
        found = list(table.records)
    assert [getattr(record, "message", None) for record in found] == [
        None,
        "line 145: longer than 1,000 characters; is there a blank line between sentences?",
        None,
    ]
