"""Malformed inputs, each through the command line: exit code 2, and a message that names file, row and remedy."""

import json

import pytest

from tests.support.commands import call

GOOD = b"text,label\nmy parcel is late,late\nno parcel yet,late\nthe mug is broken,broken\nit has a crack,broken\n"
TASK = {"language": "en", "labels": {"late": "late", "broken": "broken"}, "reference": "echo", "learners": ["tfidf"]}


def jsonl(*rows):
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows) + b"\n"


ROW = {"text": "my parcel is late", "label": "late"}
OTHER = {"text": "the mug is broken", "label": "broken"}
FILES = {
    # name: (file name, content, row or None)
    "empty csv": ("rows.csv", b"", None),
    "header only": ("rows.csv", b"text,label\n", None),
    "blank lines only": ("rows.csv", b"\n\n\n", None),
    "no text column": ("rows.csv", GOOD.replace(b"text,", b"message,"), None),
    "no label column": ("rows.csv", GOOD.replace(b",label", b",intent"), None),
    "a column twice": ("rows.csv", b"text,text,label\na,b,late\n", None),
    "unknown label": ("rows.csv", GOOD + b"where is it,lat\n", 5),
    "unknown label in upper case": ("rows.csv", GOOD + b"where is it,LATE\n", 5),
    "too many fields": ("rows.csv", GOOD + b"a,late,x,y\n", 5),
    "too few fields": ("rows.csv", GOOD + b"only text\n", 5),
    "unclosed quote": ("rows.csv", GOOD + b'"never closed,late\n', 5),
    "text after a quote": ("rows.csv", GOOD + b'"closed" too early,late\n', 5),
    "NUL byte": ("rows.csv", GOOD + b"a\0b,late\n", 5),
    "binary": ("rows.csv", bytes(range(256)) * 40, None),
    "a picture": ("rows.csv", b"\x89PNG\r\n\x1a\n" + b"\0" * 400, None),
    "a zip archive": ("rows.csv", b"PK\x03\x04" + b"\0\x01" * 400, None),
    "a workbook": ("rows.xlsx", b"PK\x03\x04" + b"\0\x01" * 400, None),
    "a row of 2 MB": ("rows.csv", GOOD + b"x" * 2_000_000 + b",late\n", 5),
    "one class": ("rows.csv", b"text,label\na b,late\nc d,late\n", None),
    "no labels at all": ("rows.csv", b"text,label\na b,\nc d,\n", None),
    "no texts at all": ("rows.csv", b"text,label\n,late\n,broken\n", None),
    "all rows in conflict": ("rows.csv", b"text,label\nsame,late\nsame,broken\n", None),
    "a byte that does not fit": ("rows.csv", GOOD * 40 + b"caf\xe9 \xff\xfe,late\n" + b"caf\xc3\xa9,late\n", None),
    "semicolons with a comma header": ("rows.csv", b"text,label\na b;late\n", 1),
    "tsv with commas": ("rows.tsv", GOOD, None),
    "empty jsonl": ("rows.jsonl", b"", None),
    "broken json": ("rows.jsonl", jsonl(ROW, OTHER, b'{"text": "a", "label": '), 3),
    "json list": ("rows.jsonl", jsonl(ROW, OTHER, ["a", "late"]), 3),
    "json number": ("rows.jsonl", jsonl(ROW, OTHER, 7), 3),
    "json null": ("rows.jsonl", jsonl(ROW, OTHER, b"null"), 3),
    "text is a number": ("rows.jsonl", jsonl(ROW, OTHER, {"text": 5, "label": "late"}), 3),
    "text is a list": ("rows.jsonl", jsonl(ROW, OTHER, {"text": ["a"], "label": "late"}), 3),
    "label is an object": ("rows.jsonl", jsonl(ROW, OTHER, {"text": "a", "label": {}}), 3),
    "unknown label in json": ("rows.jsonl", jsonl(ROW, OTHER, {"text": "a", "label": "brokn"}), 3),
    "no text key": ("rows.jsonl", jsonl(*[{"t": "a", "label": "late"}] * 3), None),
    "two objects on a line": ("rows.jsonl", jsonl(ROW, OTHER, b'{"text":"a","label":"late"}{"text":"b","label":"late"}'), 3),
    "deep nesting": ("rows.jsonl", jsonl(ROW, OTHER, b"[" * 5000), 3),
    "python instead of json": ("rows.jsonl", jsonl(ROW, OTHER, b"{'text': 'a', 'label': 'late'}"), 3),
    "infinity": ("rows.jsonl", jsonl(ROW, OTHER, b'{"text": Infinity, "label": "late"}'), 3),
    "not parquet": ("rows.parquet", GOOD, None),
    "truncated parquet": ("rows.parquet", b"PAR1" + b"\0" * 50, None),
    "empty parquet": ("rows.parquet", b"", None),
}
REMEDIES = (
    "expected",
    "did you mean",
    "task.yaml",
    "--",
    "save",
    "correct",
    "fix",
    "name",
    "remove",
    "add",
    "export",
    "split",
    "at least",
)


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_ends_with_code_2_and_says_what_to_do(name, monkeypatch, capsys, tmp_path, tiny_cache):
    file, content, row = FILES[name]
    (tmp_path / file).write_bytes(content)
    (tmp_path / "task.yaml").write_text(json.dumps(TASK | {"data": {"train": file}}), "utf-8")
    code, out, err = call(monkeypatch, capsys, "run", tmp_path / "task.yaml", "--out", tmp_path / "out", cache=tiny_cache)
    assert code == 2, err
    assert out == ""
    assert file in err
    assert "Traceback" not in err
    if row is not None:
        assert f"row {row}" in err
    assert any(word in err.lower() for word in REMEDIES), err


@pytest.mark.parametrize("what", ["missing", "a folder", "vanishing link"])
def test_a_file_that_is_not_there_is_named(what, monkeypatch, capsys, tmp_path, tiny_cache):
    path = tmp_path / "rows.csv"
    if what == "a folder":
        path.mkdir()
    elif what == "vanishing link":
        path.symlink_to(tmp_path / "gone.csv")
    (tmp_path / "task.yaml").write_text(json.dumps(TASK | {"data": {"train": "rows.csv"}}), "utf-8")
    code, _, err = call(monkeypatch, capsys, "run", tmp_path / "task.yaml", "--out", tmp_path / "out", cache=tiny_cache)
    assert code == 2
    assert "rows.csv" in err
    assert "data.train" in err


def test_there_are_at_least_forty():
    assert len(FILES) >= 40
