"""Streaming texts for prediction: a bad row is a value, never an exception."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.errors import DataError
from refsynth.core.sections import Columns
from refsynth.data.rows import BadRow, Row, iter_rows


def rows_of(folder, name, content, **options):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(iter_rows(path, **options))


def test_csv_with_and_without_id_and_label(tmp_path):
    assert rows_of(tmp_path, "x.csv", "text\none\n") == [Row(1, "one", None, None)]
    content = "id,text,intent\n7,one,a\n8,two,\n"
    found = rows_of(tmp_path, "y.csv", content, columns=Columns(text="text", label="intent"))
    assert found == [Row(1, "one", "7", "a"), Row(2, "two", "8", None)]


def test_csv_bad_rows_keep_their_number(tmp_path):
    content = b'text,label\nok,a\none,two,three\n"open,a\n\n,a\ncaf\xe9\xe9,a\n' + "\u597d\u597d\u597d\u597d,a\n".encode()
    found = rows_of(tmp_path, "x.csv", content)
    assert [row.number for row in found] == [1, 2, 3, 4, 5, 6]
    assert [type(row) for row in found] == [Row, BadRow, BadRow, BadRow, BadRow, Row]
    assert found[3] == BadRow(4, "empty text")
    assert found[4] == BadRow(5, "byte 0xE9 does not fit the file's encoding")


def test_tsv_and_jsonl(tmp_path):
    assert rows_of(tmp_path, "x.tsv", "text\tlabel\na, b\tc\n") == [Row(1, "a, b", None, "c")]
    content = '{"text": "x", "id": 12}\n\n{"body": 1}\n{"text": null}\n{"text": 3}\nnope\n'
    assert rows_of(tmp_path, "x.jsonl", content) == [
        Row(1, "x", 12, None),
        BadRow(2, "no key 'text'; keys there: body"),
        BadRow(3, "empty text"),
        BadRow(4, "'text' is a JSON number, expected a string"),
        BadRow(5, "not valid JSON at column 1: Expecting value"),
    ]


def test_plain_text_counts_lines(tmp_path):
    content = 'one, with a comma\n\n"three\nfour'
    expected = [
        Row(1, "one, with a comma", None, None),
        BadRow(2, "empty text"),
        Row(3, '"three', None, None),
        Row(4, "four", None, None),
    ]
    assert rows_of(tmp_path, "x.txt", content) == expected
    assert rows_of(tmp_path, "x.txt", content, columns=Columns(text="message")) == expected
    assert list(iter_rows(io.BytesIO(content.encode()))) == expected


def test_parquet(tmp_path):
    polars = pytest.importorskip("polars")
    path = tmp_path / "x.parquet"
    polars.DataFrame({"id": range(25_001), "text": ["t"] * 25_000 + [None]}).write_parquet(path)
    found = list(iter_rows(path))
    assert found[0] == Row(1, "t", 0, None)
    assert found[24_999] == Row(25_000, "t", 24_999, None)
    assert found[25_000:] == [BadRow(25_001, "empty text")]


def test_a_stream_is_jsonl_or_text_by_its_first_character():
    assert list(iter_rows(io.BytesIO(b'\n  {"text": "x"}\n'))) == [Row(1, "x", None, None)]
    assert list(iter_rows(io.BytesIO(b"\xef\xbb\xbfx {\n"))) == [Row(1, "x {", None, None)]
    assert list(iter_rows(io.BytesIO(b""))) == []
    assert list(iter_rows(io.BytesIO("é\n".encode("latin-1")), encoding="latin-1")) == [Row(1, "é", None, None)]


def test_a_stream_gives_each_row_as_it_comes_and_stays_open():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as sink:
        sink.write(b"one\n")
        rows = iter_rows(source)
        assert next(rows).text == "one"
        sink.write(b"two\n")
        assert next(rows).text == "two"
        rows.close()
        assert not source.closed


def test_unreadable_files_raise(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(iter_rows(tmp_path / "absent.csv"))
    for name in ("x.csv", "x.txt", "x.jsonl"):
        with pytest.raises(DataError, match=r"is empty\n  expected rows, and in CSV a header"):
            rows_of(tmp_path, name, "\n")
    with pytest.raises(DataError, match="is a folder"):
        list(iter_rows(tmp_path))
    with pytest.raises(
        DataError, match=r"no column 'text'\n  columns there: body\n  did you mean 'body'.*--text, or.*--delimiter"
    ):
        rows_of(tmp_path, "x.csv", "body\nx\n")
    with pytest.raises(DataError, match="old Excel"):
        rows_of(tmp_path, "x.csv", b"\xd0\xcf\x11\xe0" + b"\0" * 600)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_memory_does_not_grow_with_the_file_nor_with_a_line(tmp_path, kind):
    line = "{}\n" if kind != "jsonl" else '{{"text": "{}"}}\n'
    path = tmp_path / f"x.{kind}"
    with path.open("w") as stream:
        stream.write("text\n" if kind == "csv" else "")
        stream.writelines(line.format(f"a text with some words and a number {i}") for i in range(20_000))
        for _ in range(40):
            stream.write("x" * 500_000)
        stream.write("\n")
    tracemalloc.start()
    bad = [row for row in iter_rows(path) if isinstance(row, BadRow)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bad == [BadRow(20_001, "longer than 1,000,000 characters")]
    assert peak < 12e6


def test_reading_text_needs_the_base_install_only(tmp_path):
    (tmp_path / "x.csv").write_text("text\none\n")
    program = """
import sys
for name in ("scipy", "polars", "charset_normalizer", "torch", "sklearn", "datasketch"):
    sys.modules[name] = None
from pathlib import Path
from refsynth.data.rows import iter_rows
print(next(iter_rows(Path(sys.argv[1]))).text)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "x.csv"], capture_output=True, text=True)
    assert done.stdout == "one\n", done.stderr


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["x.csv", "x.tsv", "x.jsonl", "x.txt"]))
def test_garbage_never_raises_from_a_row(tmp_path_factory, garbage, name):
    path = tmp_path_factory.mktemp("garbage") / name
    first = b'{"text": "fine"}\n' if name.endswith("jsonl") else b"text\nfine\n"
    path.write_bytes(first + b"plain words\n" * 400 + garbage)
    found = list(iter_rows(path, encoding="utf-8"))
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    for row in found:
        json.dumps(row, ensure_ascii=False).encode()
