"""Odd and hostile inputs: files, configurations, damaged run folders, command lines, requests. All are made here.

A file is given with the number of rows that `predict` owes an answer or a named fault each; None where it is refused, or where
what a row is can be argued about.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

LABELS = ("late", "broken")
TEXTS = (
    ("my parcel is late", "late"), ("no parcel arrived yet", "late"), ("where does my order stay", "late"),
    ("delivery takes too long", "late"), ("it was promised for monday", "late"), ("still waiting for the box", "late"),
    ("the mug is broken", "broken"), ("it has a crack", "broken"), ("the screen is in pieces", "broken"),
    ("one leg of the chair is off", "broken"), ("a corner was smashed", "broken"), ("the zip does not close", "broken"),
)  # fmt: skip
GOOD = ("text,label\n" + "".join(f"{text},{label}\n" for text, label in TEXTS)).encode()
LINES = [json.dumps({"text": text, "label": label}) for text, label in TEXTS]


FAR = b'<worksheet><sheetData><row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'


class File(NamedTuple):
    """A file: its name, what is in it, and the rows that must be accounted for."""

    name: str
    data: bytes
    rows: int | None = None


def lines(*more: str | bytes) -> bytes:
    """Return good JSON lines, and more."""
    return b"".join(
        (line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line) + b"\n" for line in (*LINES, *more)
    )


def workbook(rows: int = 3, *, cell: str = "my parcel is late", extra: Mapping[str, bytes] | None = None) -> bytes:
    """Return a workbook made by hand, with any further parts."""
    body = "".join(
        f'<row r="{at + 2}"><c r="A{at + 2}" t="inlineStr"><is><t>{cell}</t></is></c>'
        f'<c r="B{at + 2}" t="inlineStr"><is><t>{LABELS[at % 2]}</t></is></c></row>'
        for at in range(rows)
    )
    head = '<row r="1"><c r="A1" t="inlineStr"><is><t>text</t></is></c><c r="B1" t="inlineStr"><is><t>label</t></is></c></row>'
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    parts = {
        "[Content_Types].xml": b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="r" Type="{office}/officeDocument" '
        f'Target="xl/workbook.xml"/></Relationships>'.encode(),
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}"><Relationship Id="s" Type="{office}/worksheet" '
        f'Target="worksheets/sheet1.xml"/></Relationships>'.encode(),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="S" sheetId="1" r:id="s"/></sheets>'
        f"</workbook>".encode(),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{head}{body}</sheetData></worksheet>'.encode(),
    } | dict(extra or {})
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return target.getvalue()


def parquet(columns: Mapping[str, object]) -> bytes:
    """Return a Parquet file of these columns."""
    import polars

    target = io.BytesIO()
    polars.DataFrame(columns, strict=False).write_parquet(target)
    return target.getvalue()


def files() -> dict[str, File]:
    """Return the files by what is odd about them."""
    twelve = len(TEXTS)
    entities = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "' + b"x" * 1000 + b'">' + b"".join(
        b'<!ENTITY a%d "%s">' % (n, b"&a%s;" % (str(n - 1).encode() if n else b"") * 10) for n in range(9)
    ) + b"]><worksheet><sheetData><row><c><v>&a8;</v></c></row></sheetData></worksheet>"  # fmt: skip
    good_parquet = parquet({"text": [text for text, _ in TEXTS], "label": [label for _, label in TEXTS]})
    return {
        # CSV
        "csv nothing": File("a.csv", b""),
        "csv one newline": File("a.csv", b"\n"),
        "csv only a mark": File("a.csv", b"\xef\xbb\xbf"),
        "csv header only": File("a.csv", b"text,label"),
        "csv NUL in a text": File("a.csv", GOOD + b"a\0b,late\n", twelve + 1),
        "csv all NUL": File("a.csv", b"\0" * 5000),
        "csv cut in a character": File("a.csv", GOOD + "très tard".encode()[:3] + b",late\n", twelve + 1),
        "csv cut in a quote": File("a.csv", GOOD + b'"my par'),
        "csv mark in the middle": File("a.csv", GOOD + b"\xef\xbb\xbfa b,late\n", twelve + 1),
        "csv two marks": File("a.csv", b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD),
        "csv utf-16 with mark": File("a.csv", GOOD.decode().encode("utf-16"), twelve),
        "csv utf-16 without mark": File("a.csv", GOOD.decode().encode("utf-16-le"), twelve),
        "csv utf-16 odd length": File("a.csv", GOOD.decode().encode("utf-16")[:-1]),
        "csv utf-32": File("a.csv", GOOD.decode().encode("utf-32"), twelve),
        "csv utf-7": File("a.csv", GOOD + b"+2AA-,late\n", twelve + 1),
        "csv surrogate as bytes": File("a.csv", GOOD + b"a \xed\xa0\x80 b,late\n", twelve + 1),
        "csv overlong bytes": File("a.csv", GOOD + b"a \xc0\xaf b,late\n", twelve + 1),
        "csv bidi": File("a.csv", GOOD + "a \u202e b \u2066 c,late\n".encode(), twelve + 1),
        "csv invisible text": File("a.csv", GOOD + "\u200b\u200b,late\n".encode(), twelve + 1),
        "csv combining pile": File("a.csv", GOOD + ("e" + "\u0301" * 5000 + ",late\n").encode(), twelve + 1),
        "csv huge ligature": File("a.csv", GOOD + ("\ufdfa" * 50_000 + ",late\n").encode(), twelve + 1),
        "csv line of 3 MB": File("a.csv", GOOD + b"x" * 3_000_000 + b",late\n", twelve + 1),
        "csv header of 3 MB": File("a.csv", b"x" * 3_000_000 + b"\n" + GOOD),
        "csv 3 MB without a line end": File("a.csv", b"ab " * 1_000_000),
        "csv 3 MB of quotes": File("a.csv", b"text,label\n" + b'"' * 3_000_000),
        "csv 100,000 columns": File("a.csv", b",".join(b"c%d" % n for n in range(100_000)) + b"\n" + GOOD),
        "csv 50,000 fields in a row": File("a.csv", GOOD + b"," * 50_000 + b"\n"),
        "csv column twice": File("a.csv", b"text,text,label\n" + b"a b,c d,late\n" * 3),
        "csv label twice": File("a.csv", b"text,label,label\n" + b"a b,late,broken\n" * 3, 3),
        "csv no name": File("a.csv", b",\n" + GOOD),
        "csv name with a line end": File("a.csv", b'"te\nxt",label\n' + GOOD),
        "csv formula header": File("a.csv", b"text,label,=HYPERLINK(1)\n" + b"a b,late,=1+1\n" * 2, 2),
        "csv formula label": File("a.csv", b"text,label\na b,=1+1\nc d,=1+1\ne f,@x\ng h,@x\n", 4),
        "csv markup label": File("a.csv", b"text,label\na b,[red]x[/red]\nc d,[red]x[/red]\ne f,[/]\ng h,[/]\n", 4),
        "csv link label": File("a.csv", b"text,label\na b,[link=x]\nc d,[link=x]\ne f,<b>\ng h,<b>\n", 4),
        "csv terminal label": File("a.csv", b"text,label\na b,\x1b[2Jx\nc d,\x1b[2Jx\ne f,y\ng h,y\n", 4),
        "csv label of 5,000 characters": File("a.csv", GOOD + b"a b," + b"l" * 5000 + b"\n", twelve + 1),
        "csv a thousand labels": File("a.csv", b"text,label\n" + b"".join(b"text %d,l%d\n" % (n, n) for n in range(1500)), 1500),
        "csv carriage returns": File("a.csv", GOOD.replace(b"\n", b"\r"), twelve),
        "csv mixed line ends": File("a.csv", GOOD.replace(b"\n", b"\r\n", 5), twelve),
        "csv form feeds": File("a.csv", GOOD + b"a\x0cb\x0bc\x1cd\x85e,late\n"),
        "csv line separators": File("a.csv", GOOD + "a\u2028b\u2029c\u0085d,late\n".encode(), twelve + 1),
        "csv of spaces": File("a.csv", b"text,label\n" + b"   ,late\n" * 5, 5),
        "csv huge id": File("a.csv", b"id,text,label\n" + b"9" * 5000 + b",a b,late\n", 1),
        "csv sep line alone": File("a.csv", b"sep=;\n"),
        "csv sep of two": File("a.csv", b"sep=;;\ntext;label\na b;late\n"),
        "csv regex catastrophe": File("a.csv", GOOD + b"a" * 50_000 + b"!,late\n" + b"@" * 50_000 + b",late\n", twelve + 2),
        "csv marks catastrophe": File("a.csv", GOOD + b"[" * 20_000 + b"](" * 20_000 + b",late\n", twelve + 1),
        "tsv quotes": File("a.tsv", b'text\tlabel\n"a b\tlate\nc" d\tlate\n', 2),
        "tsv nothing but tabs": File("a.tsv", b"\t\t\t\n" * 5),
        # JSON lines and JSON
        "jsonl nothing": File("a.jsonl", b""),
        "jsonl cut": File("a.jsonl", lines()[:-9], twelve),
        "jsonl lone surrogate": File("a.jsonl", lines('{"text": "a \\ud800 b", "label": "late"}'), twelve + 1),
        "jsonl surrogate in a key": File("a.jsonl", lines('{"text": "a b", "label": "late", "\\udfff": 1}'), twelve + 1),
        "jsonl surrogate label": File(
            "a.jsonl", lines(*[f'{{"text": "a {n}", "label": "\\ud83d"}}' for n in range(3)]), twelve + 3
        ),
        "jsonl surrogate id": File("a.jsonl", lines('{"id": "\\udc00", "text": "a b", "label": "late"}'), twelve + 1),
        "jsonl raw surrogate": File("a.jsonl", lines('{"text": "a \ud800 b", "label": "late"}'), twelve + 1),
        "jsonl NUL escape": File("a.jsonl", lines('{"text": "a \\u0000 b", "label": "late\\u0000"}'), twelve + 1),
        "jsonl deep list": File("a.jsonl", lines("[" * 100_000 + "]" * 100_000), twelve + 1),
        "jsonl deep object": File("a.jsonl", lines('{"text": "a", "x": ' + '{"a":' * 50_000 + "1" + "}" * 50_001), twelve + 1),
        "jsonl rather deep": File(
            "a.jsonl", lines('{"text": "a b", "label": "late", "x": ' + "[" * 900 + "]" * 900 + "}"), twelve + 1
        ),
        "jsonl huge number": File("a.jsonl", lines('{"text": "a b", "label": "late", "id": ' + "9" * 10_000 + "}"), twelve + 1),
        "jsonl number beyond 64 bits": File(
            "a.jsonl", lines('{"text": "a b", "label": "late", "id": 99999999999999999999}'), twelve + 1
        ),
        "jsonl huge exponent": File("a.jsonl", lines('{"text": "a b", "label": "late", "id": 1e999}'), twelve + 1),
        "jsonl NaN": File("a.jsonl", lines('{"text": "a b", "label": NaN, "id": -Infinity}'), twelve + 1),
        "jsonl keys twice": File("a.jsonl", lines('{"text": "a b", "text": "c d", "label": "late"}'), twelve + 1),
        "jsonl 50,000 keys": File("a.jsonl", lines("{" + ",".join(f'"k{n}": 0' for n in range(50_000)) + "}"), twelve + 1),
        "jsonl new keys in each row": File(
            "a.jsonl", lines(*[f'{{"text": "a b", "label": "late", "k{n}": 1}}' for n in range(50)]), twelve + 50
        ),
        "jsonl line of 3 MB": File("a.jsonl", lines('{"text": "' + "x" * 3_000_000 + '"}'), twelve + 1),
        "jsonl columns of ours": File(
            "a.jsonl", lines('{"text": "a b", "label": "late", "error": 1, "row": 2, "confidence": {}}'), twelve + 1
        ),
        "jsonl label is a number": File("a.jsonl", lines('{"text": "a b", "label": 1e308}'), twelve + 1),
        "jsonl mixed kinds": File(
            "a.jsonl", lines('{"text": null, "label": []}', '{"text": [], "label": {}}', "5", '"x"', "null"), twelve + 5
        ),
        "jsonl utf-16": File("a.jsonl", lines().decode().encode("utf-16"), twelve),
        "jsonl empty keys": File("a.jsonl", lines('{"": "a b", " ": "late"}'), twelve + 1),
        "json list": File("a.json", ("[" + ",".join(LINES) + "]").encode()),
        "json list cut": File("a.json", ("[" + ",".join(LINES)).encode()),
        "json one object": File("a.json", b'{"rows": 5}'),
        "json deep": File("a.json", b"[" * 200_000),
        "json nothing": File("a.json", b""),
        # Parquet
        "parquet nothing": File("a.parquet", b""),
        "parquet eight bytes": File("a.parquet", b"PAR1PAR1"),
        "parquet cut": File("a.parquet", good_parquet[:-20]),
        "parquet middle overwritten": File("a.parquet", good_parquet[:8] + b"\xff" * 60 + good_parquet[68:]),
        "parquet footer of 4 GB": File("a.parquet", good_parquet[:-8] + b"\xff\xff\xff\xff" + b"PAR1"),
        "parquet footer of nothing": File("a.parquet", good_parquet[:-8] + b"\0\0\0\0" + b"PAR1"),
        "parquet dictionary": File("a.parquet", parquet({"text": ["x" * 1_100_000] * 500, "label": ["late"] * 500}), 500),
        "parquet nulls": File("a.parquet", parquet({"text": [None] * 5, "label": [None] * 5}), 5),
        "parquet no columns": File("a.parquet", parquet({})),
        "parquet no rows": File("a.parquet", parquet({"text": np.array([], str), "label": np.array([], str)})),
        "parquet bytes": File("a.parquet", parquet({"text": [b"\xff\xfe"] * 4, "label": ["late"] * 4})),
        "parquet nested": File("a.parquet", parquet({"text": ["a b"] * 4, "label": ["late"] * 4, "x": [[[{"a": [1]}]]] * 4}), 4),
        "parquet floats": File("a.parquet", parquet({"text": ["a b"] * 3, "label": [float("nan"), float("inf"), 1e308]}), 3),
        "parquet odd names": File(
            "a.parquet", parquet({"text": ["a b"] * 3, "": ["x"] * 3, "=1+1": ["y"] * 3, "label": ["late"] * 3}), 3
        ),
        # Excel
        "excel by hand": File("a.xlsx", workbook(4), 4),
        "excel nothing": File("a.xlsx", b""),
        "excel cut": File("a.xlsx", workbook()[:-40]),
        "excel is CSV": File("a.xlsx", GOOD),
        "excel entities": File("a.xlsx", workbook(extra={"xl/worksheets/sheet1.xml": entities})),
        "excel zip bomb": File("a.xlsx", workbook(extra={"xl/worksheets/sheet1.xml": b" " * 200_000_000})),
        "excel far cell": File("a.xlsx", workbook(extra={"xl/worksheets/sheet1.xml": FAR})),
        "excel way outside": File("a.xlsx", workbook(extra={"../../outside.xml": b"x"}), 3),
        "excel formula texts": File("a.xlsx", workbook(cell="=cmd|' /C calc'!A0"), 3),
        "excel control texts": File("a.xlsx", workbook(cell="a _x0000_ &#1; b")),
        "excel no sheets": File("a.xlsx", workbook(extra={"xl/workbook.xml": b"<workbook/>"})),
        "ods is a text": File("a.ods", b"hello"),
        "xls is a zip": File("a.xls", workbook()),
        "xlsb is nothing": File("a.xlsb", b"\0" * 100),
        # CoNLL and plain text
        "conll cut": File("a.conll", b"Lee B-person\nmoved O\n\nto"),
        "conll no tags": File("a.conll", b"Lee\nmoved\n\n"),
        "conll ragged": File("a.conll", b"Lee B-person x y\nmoved\n\nto O\n"),
        "conll wrong order": File("a.conll", b"Lee I-person\nmoved E-place\nto B-\n. -\n"),
        "conll one sentence of 1 MB": File("a.conll", b"Lee B-person\n" * 80_000),
        "text nothing": File("a.txt", b""),
        "text blank lines": File("a.txt", b"\n \n\t\n"),
        "text three lines": File("a.txt", b"my parcel is late\n\xff\xfe\nit is broken\n"),
        "text line of 3 MB": File("a.txt", b"x" * 3_000_000, 1),
        "text without an end": File("a.txt", b"my parcel is late", 1),
        # names
        "no suffix": File("rows", GOOD),
        "two suffixes": File("a.csv.gz", b"\x1f\x8b\x08" + b"\0" * 30),
        "zip as csv": File("a.csv", workbook()),
        "name with spaces": File("my rows (1).csv", GOOD, twelve),
        "name with a line end": File("a\nb.csv", GOOD, twelve),
        "name with markup": File("[bold]a[red].csv", GOOD, twelve),
        "name with a dash": File("-rows.csv", GOOD, twelve),
        "name of bytes": File(os.fsdecode(b"a\xff.csv"), GOOD, twelve),
        "name in capitals": File("A.CSV", GOOD, twelve),
    }  # fmt: skip


TASK = {
    "language": "en",
    "labels": list(LABELS),
    "data": {"train": "rows.csv"},
    "learners": ["tfidf"],
    "synthesis": {"drafts": 0},
}


def yaml(**changes: object) -> str:
    """Return a good task with some values changed, as JSON, which is YAML too."""
    return json.dumps(TASK | changes)


YAMLS: Mapping[str, str | bytes] = {
    "nothing": "",
    "null": "null",
    "a list": "[1, 2]",
    "a word": "hello",
    "only a mark": b"\xef\xbb\xbf",
    "utf-16": yaml().encode("utf-16"),
    "latin-1": b"labels: [caf\xe9]",
    "NUL": b"labels: [a\0b]",
    "tabs": "labels:\n\t- a\n",
    "cut": yaml()[:-10],
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\nlabels: [*c,*c]",
    "points to itself": "labels: &a [*a]",
    "merge key": "labels: {<<: {a: b}}",
    "deep lists": "labels: " + "[" * 50_000,
    "deep objects": "{a: " * 20_000,
    "10 MB": "labels: [" + "a, " * 3_500_000 + "b]",
    "many keys": "\n".join(f"k{n}: 1" for n in range(50_000)),
    "key twice": yaml()[:-1] + ', "language": "de"}',
    "python tag": "labels: !!python/object/apply:os.system ['true']",
    "binary tag": "labels: !!binary aGVsbG8=",
    "set tag": "labels: !!set {a, b}",
    "two documents": "labels: [a, b]\n---\nlabels: [c, d]\n",
    "list as key": "? [a, b]\n: 1\n",
    "labels of one": yaml(labels=["late"]),
    "labels twice": yaml(labels=["late", "late"]),
    "labels empty text": yaml(labels=["", "late"]),
    "labels null": yaml(labels=None),
    "labels number": yaml(labels=5),
    "labels nested": yaml(labels={"late": {"a": 1}, "broken": []}),
    "labels surrogate": yaml(labels=["late", "\ud800"]),
    "labels 20,000": yaml(labels=[f"l{n}" for n in range(20_000)]),
    "labels NUL": yaml(labels=["late", "broken", "a\0b"]),
    "labels separator": yaml(labels=["late", "broken", "a|b"], task="multilabel"),
    "train is a number": yaml(data={"train": 5}),
    "train is NUL": yaml(data={"train": "a\0b.csv"}),
    "train is a folder": yaml(data={"train": "."}),
    "train is itself": yaml(data={"train": "task.yaml"}),
    "train is far away": yaml(data={"train": "/proc/self/mem"}),
    "train is a long name": yaml(data={"train": "a" * 5000 + ".csv"}),
    "train is a surrogate": yaml(data={"train": "\ud800.csv"}),
    "train is a user": yaml(data={"train": "~nobody-here/rows.csv"}),
    "column is a list": yaml(data={"train": "rows.csv", "columns": {"text": ["text", "nope"]}}),
    "column is empty": yaml(data={"train": "rows.csv", "columns": {"text": ""}}),
    "column is the label": yaml(data={"train": "rows.csv", "columns": {"text": "label"}}),
    "delimiter of two": yaml(data={"train": "rows.csv", "delimiter": ";;"}),
    "delimiter is a quote": yaml(data={"train": "rows.csv", "delimiter": '"'}),
    "delimiter is a line end": yaml(data={"train": "rows.csv", "delimiter": "\n"}),
    "encoding unknown": yaml(data={"train": "rows.csv", "encoding": "klingon"}),
    "encoding of bytes": yaml(data={"train": "rows.csv", "encoding": "base64"}),
    "encoding of names": yaml(data={"train": "rows.csv", "encoding": "idna"}),
    "encoding NUL": yaml(data={"train": "rows.csv", "encoding": "a\0"}),
    "seed negative": yaml(seed=-1),
    "seed huge": yaml(seed=10**400),
    "seed NaN": yaml(seed=float("nan")),
    "drafts negative": yaml(synthesis={"drafts": -1}),
    "drafts infinite": yaml(synthesis={"drafts": float("inf")}),
    "folds zero": yaml(gate={"folds": 0}),
    "folds huge": yaml(gate={"folds": 10**9}),
    "learners none": yaml(learners=[]),
    "learners unknown": yaml(learners=["nope"]),
    "learners surrogate": yaml(learners=["\udfff"]),
    "task unknown": yaml(task="nope"),
    "unsure above one": yaml(unsure={"accuracy": 1.5}),
    "unsure NaN": yaml(unsure={"accuracy": float("nan")}),
    "language unknown": yaml(language="xx-yy-zz"),
    "reference with a password": yaml(reference={"endpoint": "http://user:secret@localhost/v1", "model": "m"}),
    "reference of a file": yaml(reference={"endpoint": "file:///etc/passwd", "model": "m"}),
    "reference without a host": yaml(reference={"endpoint": "http://", "model": "m"}),
    "reference key of another": yaml(reference={"endpoint": "http://localhost/v1", "model": "m", "key_env": "PATH"}),
    "secret under a wrong key": yaml(reference={"endpoint": "http://localhost/v1", "model": "m", "api_key": "sk-secret-123"}),
    "secret as a wrong kind": yaml(reference={"endpoint": ["sk-secret-123"], "model": "m"}),
    "secret as a number": yaml(reference={"endpoint": "http://u:sk-secret-123@h:99999999/v1", "model": "m"}),
    "secret with spaces": yaml(reference={"endpoint": " https://h/v1?api_key=sk-secret-123", "model": "m", "key_env": 5}),
}  # fmt: skip


Damage = Callable[[Path], None]


def put(name: str, data: bytes | str) -> Damage:
    """Return what puts something in the place of a file below a folder."""

    def damage(folder: Path) -> None:
        for path in sorted(folder.glob(name)):
            path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))

    return damage


def changed(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Return what changes the content of a file."""

    def damage(folder: Path) -> None:
        for path in sorted(folder.glob(name)):
            path.write_bytes(change(path.read_bytes()))

    return damage


def replaced(name: str, make: Callable[[Path], None]) -> Damage:
    """Return what puts something else than a file in a file's place."""

    def damage(folder: Path) -> None:
        for path in sorted(folder.glob(name)):
            path.unlink()
            make(path)

    return damage


JSONS: Mapping[str, str | bytes] = {
    "nothing": "", "null": "null", "a list": "[]", "an object": "{}", "a number": "1e999", "cut": '{"a": ',
    "no text": b"\xff\xfe\xfd",
    "deep": "[" * 100_000, "surrogate": '{"\\ud800": 1}', "long number": "9" * 10_000, "NUL": b"\0" * 64,
}  # fmt: skip
RUN_FILES = ("task.json", "held_out.csv", "report.json", "steps/*/step.json", "bundle/manifest.json")


def damages() -> dict[str, Damage]:
    """Return what may have happened to a run folder."""
    found = {f"{name} is {what}": put(name, data) for name in RUN_FILES for what, data in JSONS.items()}
    for name in RUN_FILES:
        found |= {
            f"{name} cut in the middle": changed(name, lambda data: data[: len(data) // 2]),
            f"{name} a folder": replaced(name, Path.mkdir),
            f"{name} a pipe": replaced(name, os.mkfifo),
            f"{name} a link to nothing": replaced(name, lambda path: path.symlink_to("gone")),
            f"{name} a link to itself": replaced(name, lambda path: path.symlink_to(path.name)),
            f"{name} endless": replaced(name, lambda path: path.symlink_to("/dev/zero")),
            f"{name} gone": replaced(name, lambda path: None),
        }
    return found


ALLOWED = ("labels NUL", "column is the label", "language unknown", "many keys")
"""What of `YAMLS` may be run."""

MISSING = (
    "label next new.csv --run run -n 99999999999 --out n2.csv",
    "label next new.csv --run run --seed -5 --out n3.csv",
    "label next new.csv --run run --out new.csv",
    "label next nope.csv --run run --out n4.csv",
    "record show new.csv",
    "record show /",
    "record show nope.sqlite",
    "record show postgresql://nobody:secret@127.0.0.1:1/x",
    "record show postgresql://a:secret@h:99999999/x",
    "record upgrade /",
    "record upgrade new.csv",
    "record upgrade nodir/x.sqlite",
    "models fetch nope",
    "models fetch minilm --from /",
    "models fetch minilm --from new.csv",
    "models fetch minilm --from nope",
    "models fetch --from ",
    "models verify",
    "models verify nope",
    "models verify minilm",
    "serve run --record /",
    "reload nope",
    "reload run",
)
"""Commands that end with 4: what they need is not there."""

COMMANDS = (
    *MISSING,
    "predict run new.csv --threshold nan",
    "predict run new.csv --threshold inf",
    "predict run new.csv --threshold 2",
    "predict run new.csv --threads -1",
    "predict run new.csv --out /dev/full",
    "predict run new.csv --out o.csv/x.csv",
    "predict run new.csv --out o.pickle",
    "predict run new.csv --out .csv",
    "predict run new.csv --out new.csv",
    "predict run new.csv --delimiter ab",
    'predict run new.csv --delimiter "',
    "predict run new.csv --encoding klingon",
    "predict run new.csv --encoding zlib",
    "predict run new.csv --encoding idna",
    "predict run new.csv --encoding punycode",
    "predict run new.csv --encoding undefined",
    "predict run new.csv --encoding utf-16",
    "predict run new.csv --encoding mbcs",
    "predict run new.csv --text nope",
    "predict run new.csv --pair x",
    "predict run .",
    "predict run /dev/null",
    "predict run /proc/self/mem",
    "predict new.csv new.csv",
    "predict / new.csv",
    "predict",
    "predict run a b c",
    "predict run new.csv --nope",
    "evaluate run new.csv --label nope",
    "evaluate run nope.csv",
    "evaluate run /",
    "compare run new.csv",
    "compare run",
    "compare run /",
    "compare new.csv /dev/null",
    "explain run hello --top 0",
    "explain run  ",
    "explain run hello --label nope",
    "explain run hello --label [bold]",
    "explain new.csv hello",
    "export run/bundle --to onnx --out run",
    "export run/bundle --to nope --out x",
    "export run/bundle --to hub --out new.csv",
    "export run/bundle --to transformers --out x1",
    "export run/bundle --to mlflow --out /proc/x",
    "export new.csv --to onnx --out x2",
    "export run --to onnx --out x3",
    "label next new.csv --run run -n 0 --out n1.csv",
    "label next new.csv --run nope --out n4.csv",
    "label next new.csv --run run --strategy nope",
    "label add new.csv --run nope",
    "label add nope.csv --run run",
    "label add / --run run",
    "label add new.csv --run run --text nope",
    "label worth run --labels 0",
    "label worth run --drafts -5",
    "label worth nope",
    "label worth new.csv",
    "label crowd new.csv --out c2.jsonl",
    "label crowd nope.csv --out c2.jsonl",
    "label weak new.csv --rules rules.yaml --out w.jsonl",
    "label weak new.csv --rules nope.yaml --out w.jsonl",
    "label weak new.csv --rules / --out w.jsonl",
    "label weak new.csv --rules new.csv --out w.jsonl",
    "record show record.sqlite --days nan",
    "record show record.sqlite --days inf",
    "record show record.sqlite --days 1e300",
    "record show record.sqlite --days -1",
    "record show postgresql://[",
    "record show mysql://a",
    "record export record.sqlite --out f.csv --days nan",
    "record export record.sqlite --out f.csv --days 1e300",
    "record export record.sqlite --out f.pickle",
    "record export record.sqlite --out nodir/f.csv",
    "record export record.sqlite --out f.csv --for nope",
    "record export record.sqlite --out record.sqlite",
    "record purge record.sqlite --days nan",
    "record purge record.sqlite --days 1e18",
    "record purge record.sqlite",
    "keys add a --keys k.json --days nan",
    "keys add a --keys k.json --days -1",
    "keys add a --keys k.json --days inf",
    "keys add a --keys k.json --days 1e300",
    "keys add a --keys k.json --rate inf",
    "keys add a --keys k.json --rate nan",
    "keys add a --keys k.json --rate -1",
    "keys add a --keys k.json --burst 0",
    "keys add a --keys k.json --scope nope",
    "keys add  --keys k.json",
    "keys add a --keys /",
    "keys add a --keys new.csv",
    "keys add a --keys /dev/full",
    "keys list --keys new.csv",
    "keys revoke nope --keys k.json",
    "keys revoke [bold] --keys k.json",
    "trace run nope",
    "trace run ../../etc/passwd",
    "trace nope row-1",
    "trace new.csv row-1",
    "init",
    "init new.csv --labels a,b",
    "init i1 --labels a",
    "init i2 --labels ,,,",
    "init i3 --labels a,a",
    "init i4",
    "init i5 --from new.csv --labels a,b",
    "init i6 --from new.csv --separator ",
    "init i8 --from new.csv --test nope.csv",
    "init i9 --from new.csv --delimiter abc",
    "init i10 --from new.csv --encoding idna",
    "init i12 --from new.csv --quoting nope",
    "init i13 --from new.csv --text-column  +",
    "init i14 --from /dev/zero",
    "init i15 --from /dev/full",
    "init i17 --from new.csv/x",
    "run nope.yaml --out o",
    "run new.csv --out o",
    "run / --out o",
    "run rules.yaml --out o",
    "run /dev/null --out o",
    "run run/task.json --out o9",
    "serve nope",
    "serve run --port 99999",
    "serve run --port -1",
    "serve run --workers 0",
    "serve run --workers -3",
    "serve run --deadline nan",
    "serve run --deadline -1",
    "serve run --drain inf",
    "serve run --hang 0",
    "serve run --threshold nan",
    "serve run --keys nope.json",
    "serve run --keys new.csv",
    "serve run --host nope.invalid",
    "serve run --host 0.0.0.0",
    "serve run --record postgresql://[",
    "serve run --rate nan",
    "serve run --rate inf",
    "serve run --rate 1e-9",
    "serve run --burst nan",
    "serve run --traces nope",
    "serve run --traces file:///x",
    "serve run --texts 0",
    "serve run --body-bytes -5",
    "serve run --state new.csv",
    "serve run --redact-names nope",
    "serve run --tls-key nope",
    "serve /",
    "serve new.csv",
    "filter nope",
    "filter run --set nope",
    "filter run --set =",
    "filter run --set a.b.c=1",
    "filter run --set filter.agreement=nan",
    "filter run --set filter=[",
    "synthesize nope --set x=1",
    "reinforce nope",
    "demo --out new.csv",
    "demo --seed -1 --out new.csv",
    "bench nope",
    "nope",
    "--nope",
    "--version --nope",
    "run task.yaml --seed 1e9 --out o",
    "run task.yaml --search nan --out o",
)
"""Commands that are refused, their arguments with one space between."""
