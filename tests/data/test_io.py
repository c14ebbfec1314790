"""Reading labeled files: every way in which a user's file can be wrong, and what is said of it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.errors import DataError
from refsynth.core.sections import Columns
from refsynth.data import source
from refsynth.data.account import SkippedRow, write_skipped
from refsynth.data.io import LoadedRows, read_examples
from refsynth.data.text import clean, normalize

LABELS = ("a", "b")
ROWS = "text,label\nfirst one,a\nsecond one,b\n"


def put(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder: Path, content: str | bytes, name: str = "rows.csv", **options) -> LoadedRows:
    return read_examples(put(folder, content, name), **{"labels": LABELS, **options})


def fails(folder: Path, content: str | bytes, name: str = "rows.csv", **options) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **options)
    message = str(caught.value)
    assert message.startswith(str(folder / name))
    return message.removeprefix(str(folder / name))


def test_a_plain_file(tmp_path):
    loaded = read(tmp_path, ROWS)
    assert [(e.id, e.text, e.label) for e in loaded.examples] == [("row-1", "first one", "a"), ("row-2", "second one", "b")]
    assert (loaded.encoding, loaded.delimiter, loaded.format, loaded.rows) == ("utf-8", ",", "csv", 2)
    assert loaded.counts == {"a": 1, "b": 1}
    assert loaded.notes == ("2 labels have one row only: a, b",)
    assert loaded.skipped == ()


TEXTS = {
    "German": "text,label\nDer Kühlschrank ist kaputt – schöne Grüße,a\nWann kommt die Lieferung für mich?,b\n",
    "French": "text,label\nDéjà vu à la carte,a\nOù est ma commande? Elle a été expédiée,b\n",
    "Chinese": "text,label\n我上周五下的单，怎么到现在物流一点动静都没有？,a\n登录不了，急,b\n",
    "ASCII but for one": "text,label\n" + "where is my card,a\n" * 40 + "我的卡丢了，请帮我挂失,b\n",
}


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("Chinese", "utf-8", "utf-8"),
        ("Chinese", "utf-8-sig", "utf-8-sig"),
        ("Chinese", "utf-16", "utf-16"),
        ("German", "utf-16-le", "utf-16-le"),
        ("German", "utf-16-be", "utf-16-be"),
        ("German", "utf-32", "utf-32"),
        ("German", "cp1252", "cp1252"),
        ("French", "latin-1", "cp1252"),
        ("Chinese", "gb18030", "gb18030"),
        ("ASCII but for one", "gb18030", "gb18030"),
    ],
)
def test_encodings_are_found(tmp_path, text, encoding, found):
    loaded = read(tmp_path, TEXTS[text].encode(encoding))
    assert loaded.encoding == found
    expected = [row["text"] for row in csv.DictReader(io.StringIO(TEXTS[text]))]
    assert [example.text for example in loaded.examples] == list(dict.fromkeys(expected))


def test_an_encoding_that_is_named_is_used(tmp_path):
    assert read(tmp_path, "text,label\nпривет,a\nпока,b\n".encode("koi8-r"), encoding="koi8-r").examples[0].text == "привет"
    with pytest.raises(DataError, match="encoding 'utf-9': unknown"):
        read(tmp_path, ROWS, encoding="utf-9")
    with pytest.raises(DataError, match="encoding 'hex': unknown"):
        read(tmp_path, ROWS, encoding="hex")


def test_one_broken_byte_in_utf8_is_an_error_of_its_row_and_not_another_encoding(tmp_path):
    content = "text,label\n你好吗,a\n".encode() + b"broken \xe9,a\n" + "再见了,b\n".encode()
    assert "row 2: byte 0xE9 does not fit the file's encoding (line 3 of the file)" in fails(tmp_path, content)
    loaded = read(tmp_path, content, skip_bad=True)
    assert [example.text for example in loaded.examples] == ["你好吗", "再见了"]


def test_without_charset_normalizer_the_remedy_is_to_name_the_encoding(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "charset_normalizer", None)
    assert "is not UTF-8\n  name its encoding" in fails(tmp_path, TEXTS["German"].encode("cp1252"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(tmp_path, delimiter):
    content = f'text{delimiter}label\n"one, two; three"{delimiter}a\n"four, five"{delimiter}b\n'
    assert read(tmp_path, content).delimiter == delimiter
    assert read(tmp_path, content, name="rows.unknown").delimiter == delimiter


def test_a_delimiter_that_is_named_is_used(tmp_path):
    assert read(tmp_path, ROWS.replace(",", "^"), delimiter="^").rows == 2
    assert read(tmp_path, ROWS.replace(",", "\t"), delimiter="tab").rows == 2
    with pytest.raises(DataError, match="one character"):
        read(tmp_path, ROWS, delimiter="::")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": is empty"),
        ("\n\n  \n", ": is empty"),
        ("text,label\n", ": no rows below the header"),
        ("text,label\nhello,a\nyou,a\n", ": rows of one label only ('a')"),
        ("text,label\n,a\n,b\n", ": no usable rows, of 2 (2 rows dropped: empty text (rows 1, 2))"),
        ("text,text,label\nx,y,a\n", ": two columns are named 'text'"),
        ("text,label\nx,y,a\n", " row 1: 3 fields, but the header has 2; a text that holds the delimiter needs quotes (line 2"),
        ("text,label\nx,a\n\ny\n", " row 2: 1 field, but the header has 2"),
        ('text,label\nx,a\n"never closed,b\ny,a\n', ' row 2: a quote (") is not closed'),
        ('text,label\nx,a\n"never closed,b\n"y",a\n', ' row 2: a quote (") is not closed'),
        ("[1, 2]", ": no column 'text'"),
        (b"PK\x03\x04rest", ": is a zip archive or an Excel workbook"),
        (b"\x1f\x8brest", ": is gzip-compressed"),
        (b"%PDF-1.7", ": is a PDF"),
        (bytes(range(256)) * 50, ": is a binary file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, message):
    assert fails(tmp_path, content).startswith(message)


def test_a_missing_column_lists_what_is_there_and_the_likely_one(tmp_path):
    message = fails(tmp_path, "message,intent\nx,a\ny,b\n")
    assert message.splitlines() == [
        ": no column 'text'",
        "  columns there: message, intent",
        "  did you mean 'message'? Name the columns in task.yaml: data.columns",
    ]
    assert "did you mean 'lable'?" in fails(tmp_path, "text,lable\nx,a\ny,b\n")
    assert "data.delimiter" in fails(tmp_path, "text^label\nx^a\n")
    assert read(tmp_path, "message,intent\nx,a\ny,b\n", columns=Columns(text="message", label="intent")).rows == 2


def test_an_unknown_label_is_answered_with_the_nearest(tmp_path):
    labels = [f"label_{i}" for i in range(20)] + ["card_arrival"]
    message = fails(tmp_path, "text,label\nx,label_0\ny,crad_arrival\n", labels=labels)
    assert message.splitlines() == [
        " row 2: label 'crad_arrival' is not in task.yaml (line 3 of the file)",
        "  labels there: " + ", ".join(labels[:12]) + ", ... (21)",
        "  did you mean 'card_arrival'? Fix the row, add the label, or run with --skip-bad-rows (rows are listed in skipped.csv)",
    ]


def test_bad_rows_can_be_skipped_and_are_listed(tmp_path):
    content = 'text,label\nx,a\nx,y,b\n"open,b\nz,c\nw,b\n'
    loaded = read(tmp_path, content, skip_bad=True)
    assert [example.id for example in loaded.examples] == ["row-1", "row-5"]
    assert [(row.row, row.reason) for row in loaded.skipped] == [(2, "malformed"), (3, "malformed"), (4, "unknown label")]
    assert loaded.notes[0] == "2 rows dropped: malformed (rows 2, 3)"


def test_rows_without_text_or_label_are_dropped_and_counted(tmp_path):
    loaded = read(tmp_path, 'text,label\nx,a\n  ,a\n"\u200b",b\ny,\nz,b\n')
    assert [(row.row, row.reason) for row in loaded.skipped] == [(2, "empty text"), (3, "empty text"), (4, "no label")]
    assert loaded.notes[:2] == ("2 rows dropped: empty text (rows 2, 3)", "1 row dropped: no label (row 4)")


def test_repeated_rows_stay_once_and_contradictions_not_at_all(tmp_path):
    content = "text,label\nsame,a\nsame,a\nSame ,a\nTwo  Labels,a\ntwo labels,b\nTWO LABELS,b\nother,b\n"
    loaded = read(tmp_path, content)
    assert [example.id for example in loaded.examples] == ["row-1", "row-3", "row-7"]
    assert loaded.conflicts == ((4, 5, 6),)
    assert loaded.skipped == (
        SkippedRow(2, "duplicate", "the same as row 1"),
        SkippedRow(4, "conflict", "'a' here, but 'b' in row 5"),
        SkippedRow(5, "conflict", "'b' here, but 'a' in row 4"),
        SkippedRow(6, "conflict", "'b' here, but 'a' in row 4"),
    )


def test_a_class_without_rows_is_a_note(tmp_path):
    loaded = read(tmp_path, ROWS + "third,a\n", labels=("a", "b", "c", "d"))
    assert loaded.counts == {"a": 2, "b": 1, "c": 0, "d": 0}
    assert loaded.notes == ("2 labels have no rows: c, d", "1 label has one row only: b")


def test_a_quoted_text_may_have_lines_and_blank_lines_do_not_count(tmp_path):
    loaded = read(tmp_path, '\ntext,label\r\n"one\r\ntwo ""x""",a\r\n\r\nthree,b\r\n')
    assert [(example.id, example.text) for example in loaded.examples] == [("row-1", 'one two "x"'), ("row-2", "three")]


def test_control_characters_go(tmp_path):
    assert read(tmp_path, ROWS.replace("first", "firs\x07t" + " long" * 9)).examples[0].text == "first" + " long" * 9 + " one"


def test_a_huge_line_is_an_error_of_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr("refsynth.data.source.ROW_LIMIT", 1000)
    content = "text,label\nx,a\n" + "long" * 5000 + ",a\ny,b\n"
    assert " row 2: longer than 1,000 characters" in fails(tmp_path, content)
    assert [example.text for example in read(tmp_path, content, skip_bad=True).examples] == ["x", "y"]
    runaway = 'text,label\nx,a\n"open,b\n' + "row,b\n" * 500
    assert " row 2: longer than 1,000 characters; is a quote" in fails(tmp_path, runaway)


def test_a_field_may_be_longer_than_the_csv_module_allows_by_default(tmp_path):
    usual = csv.field_size_limit()
    assert len(read(tmp_path, ROWS + "x" * 200_000 + ",a\n").examples[2].text) == 200_000
    assert csv.field_size_limit() == usual


JSONL = '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "rows"])
def test_jsonl(tmp_path, name):
    loaded = read(tmp_path, JSONL + '\n{"text": "\\ud83d\\ude00 \\ud800!", "label": "b", "more": [1]}\n', name)
    assert loaded.format == "jsonl"
    assert [(example.id, example.text) for example in loaded.examples] == [
        ("row-1", "x"),
        ("row-2", "y"),
        ("row-3", "😀 \ufffd!"),
    ]
    json.dumps([example.to_json() for example in loaded.examples], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x" "label": 3}', " row 3: not valid JSON at column 14: Expecting ',' delimiter\n"),
        ('["x", "a"]', " row 3: found JSON array, expected an object"),
        ("3", " row 3: found JSON number"),
        ("[" * 100_000, " row 3: not usable JSON"),
        ('{"text": 7' + "7" * 5000 + "}", " row 3: not usable JSON"),
        ('{"text": 7, "label": "a"}', " row 3: 'text' is a JSON number, expected a string"),
        ('{"text": ["x"], "label": "a"}', " row 3: 'text' is a JSON array"),
        (
            '{"text": "x", "label": ["a", "b"]}',
            " row 3: 'label' holds 2 labels (a, b), expected one; if a text may have several labels",
        ),
        (
            '{"text": "x", "label": {"name": "a"}}',
            " row 3: 'label' is a JSON object, expected a string or a number; it holds name: a",
        ),
        ('{"text": "x", "label": "A"}', " row 3: label 'A' is not in task.yaml"),
    ],
)
def test_bad_json_rows(tmp_path, line, message):
    assert fails(tmp_path, JSONL + line + "\n", "rows.jsonl").startswith(message)
    assert read(tmp_path, JSONL + line + "\n", "rows.jsonl", skip_bad=True).skipped[0].row == 3


def test_json_labels_may_be_numbers_and_booleans(tmp_path):
    content = '{"text": "x", "label": 0}\n{"text": "y", "label": 1.0}\n{"text": "z", "label": true}\n{"text": "w"}\n'
    loaded = read(tmp_path, content, "rows.jsonl", labels=("0", "1", "true"))
    assert [example.label for example in loaded.examples] == ["0", "1", "true"]
    assert loaded.skipped == (SkippedRow(4, "no label", ""),)


def test_json_that_has_no_such_key_at_all(tmp_path):
    assert "columns there: intent, message" in fails(tmp_path, '{"message": "x", "intent": "a"}\n' * 3, "rows.jsonl")
    assert "columns there: text" in fails(tmp_path, '[{"text": "x"}]', "rows.jsonl")


def test_parquet(tmp_path):
    polars = pytest.importorskip("polars")
    path = tmp_path / "rows.parquet"
    frame = polars.DataFrame({"text": ["x", None, "y", "y"], "label": [0, 1, 1, 1], "vector": [[1.0], [2.0], [3.0], [4.0]]})
    frame.write_parquet(path)
    loaded = read_examples(path, labels=("0", "1"))
    assert [(example.id, example.label) for example in loaded.examples] == [("row-1", "0"), ("row-3", "1")]
    assert [row.reason for row in loaded.skipped] == ["empty text", "duplicate"]
    with pytest.raises(DataError, match="columns there: text, label"):
        read_examples(path, labels=("0", "1"), columns=Columns(text="body"))
    (tmp_path / "nameless").write_bytes(path.read_bytes())
    assert read_examples(tmp_path / "nameless", labels=("0", "1")).format == "parquet"


def test_what_is_not_parquet(tmp_path):
    pytest.importorskip("polars")
    assert fails(tmp_path, ROWS, "rows.parquet").startswith(": is not Parquet, despite its name")
    assert fails(tmp_path, "", "rows.parquet").startswith(": is empty")
    assert fails(tmp_path, b"PAR1" + b"\x01" * 50 + b"PAR1", "rows.parquet").startswith(": damaged Parquet")


def test_files_that_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="is a folder"):
        read_examples(tmp_path, labels=LABELS)
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "absent.csv", labels=LABELS)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = put(tmp_path, ROWS)
    monkeypatch.setattr(source, "_Raw", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        read_examples(path, labels=LABELS)


def test_a_disk_that_fails_while_reading():
    with pytest.raises(DataError, match=r"/proc/self/mem: cannot be read \(Input/output error\)"):
        read_examples(Path("/proc/self/mem"), labels=LABELS)


def test_skipped_rows_are_written_as_csv(tmp_path):
    write_skipped(tmp_path / "skipped.csv", [SkippedRow(3, "unknown label", "label 'a,\"b' is not in task.yaml")])
    assert list(csv.reader(io.StringIO((tmp_path / "skipped.csv").read_text()))) == [
        ["row", "reason", "detail", "file", "sheet_row", "own_id"],
        ["3", "unknown label", "label 'a,\"b' is not in task.yaml", "", "", ""],
    ]


# Control characters apart from white space are left out: a file that is full of them is refused as binary.
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\n\t\r"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, st.sampled_from(LABELS)), max_size=12), st.sampled_from(["csv", "jsonl"]))
def test_every_row_is_accounted_for(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("rows") / f"rows.{kind}"
    rows = [("known text one", "a"), ("known text two", "b"), *rows]
    with path.open("w", encoding="utf-8", newline="") as stream:
        if kind == "jsonl":
            stream.writelines(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
        else:
            csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    loaded = read_examples(path, labels=LABELS)
    assert loaded.rows == len(rows) == len(loaded.examples) + len(loaded.skipped)
    numbers = sorted([int(e.id[4:]) for e in loaded.examples] + [row.row for row in loaded.skipped])
    assert numbers == list(range(1, len(rows) + 1))
    for example in loaded.examples:
        text, label = rows[int(example.id[4:]) - 1]
        assert (example.text, example.label) == (clean(text), label)
    by_text: dict[str, set[str]] = {}
    for example in loaded.examples:
        by_text.setdefault(normalize(example.text), set()).add(example.label)
    assert all(len(labels) == 1 for labels in by_text.values())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet", "rows"]), st.booleans())
def test_garbage_gives_rows_or_a_data_error(tmp_path_factory, content, name, headed):
    path = tmp_path_factory.mktemp("garbage") / name
    path.write_bytes((b"text,label\nx,a\ny,b\n" if headed else b"") + content)
    try:
        loaded = read_examples(path, labels=LABELS, skip_bad=True)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert loaded.rows == len(loaded.examples) + len(loaded.skipped)
