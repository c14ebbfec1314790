"""What odd files hold: lists in cells, columns of yes and no, refused labels, missing values, one spelling of a value."""

from __future__ import annotations

import datetime
import io
import json
import math
from decimal import Decimal

import numpy as np
import pytest

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, DataError
from refsynth.core.sections import Columns
from refsynth.core.value import missing, spell
from refsynth.data.footer import unpacked
from refsynth.data.io import read_examples
from refsynth.data.labels import as_label, as_labels, describe_variants, listed, one_label
from refsynth.data.rows import BadRow, Row, iter_rows
from refsynth.data.sniff import sniff, sniff_tagged

TEXTS = ["the box never came", "a parcel is lost", "charged me twice", "the bill is wrong", "where is my order", "refund my card"]
HALF = ["late", "late", "money", "money", "late", "money"]


def put(folder, rows, name="rows.jsonl"):
    path = folder / name
    if name.endswith(".parquet"):
        pytest.importorskip("polars").DataFrame(rows, strict=False).write_parquet(path)
    elif name.endswith(".csv"):
        polars = pytest.importorskip("polars")
        path.write_text(polars.DataFrame(rows, strict=False).write_csv())
    else:
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("same", "spelled"),
    [
        ([1, 1.0, "1", "1.0", "1.00", Decimal("1.0"), np.int64(1), np.float32(1)], "1"),
        ([True, "true", "True", "TRUE", np.True_], "true"),
        ([False, "FALSE", "False"], "false"),
        ([0.5, "0.5", "0.50", Decimal("0.500"), np.float64(0.5)], "0.5"),
        ([-3, "-3", "-3.0", -3.0], "-3"),
        ([0.0, -0.0, "0", "0.0", "-0.0"], "0"),
        (
            [datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1), "2024-05-01", "2024-05-01T00:00:00", "2024-05-01 00:00"],
            "2024-05-01",
        ),
        ([datetime.datetime(2024, 5, 1, 9, 30), "2024-05-01T09:30:00", "2024-05-01 09:30:00.000"], "2024-05-01 09:30:00"),
        ([10**20, 1e20, str(10**20)], "1" + "0" * 20),
        ([2**63 + 1, str(2**63 + 1)], str(2**63 + 1)),
        ([1e-7, "0.0000001"], "0.0000001"),
        ([b"late", "late"], "late"),
    ],
)
def test_one_value_has_one_spelling(same, spelled):
    assert {spell(value) for value in same} == {spelled}
    assert {as_label(value) for value in same} == {spelled}


@pytest.mark.parametrize(
    "text", ["007", "1e5", "1.2.0", "+1", "nan", "NA", "null", "None", "n/a", "v1.0", "1,0", "0x10", "truely"]
)
def test_other_texts_stay_as_they_are(text):
    assert as_label(text) == text


@pytest.mark.parametrize("value", [None, math.nan, np.float64("nan"), np.datetime64("NaT"), Decimal("nan")])
def test_a_missing_value_is_one_whoever_wrote_it(value):
    assert as_label(value) == ""
    assert missing(value.item() if isinstance(value, np.generic) else value)


def test_pandas_missing_values_and_arrays_are_known_too():
    pandas = pytest.importorskip("pandas")
    assert as_label(pandas.NA) == as_label(pandas.NaT) == ""
    assert [as_label(value) for value in pandas.array([1, None], "Int64")] == ["1", ""]


MISSING = {
    "jsonl of null": ("rows.jsonl", None),
    "jsonl of NaN": ("rows.jsonl", math.nan),
    "jsonl of blanks": ("rows.jsonl", "  "),
    "csv": ("rows.csv", None),
    "parquet of null": ("rows.parquet", None),
    "parquet of blanks": ("rows.parquet", " "),
}


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("column", ["text", "label"])
def test_missing_values_are_left_out_and_counted_in_every_format(name, column, tmp_path):
    file, nothing = MISSING[name]
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, HALF, strict=True)]
    rows[1][column] = nothing
    path = put(tmp_path, rows, file)
    reason = {"text": "empty text", "label": "no label"}[column]
    assert [(row.row, row.reason) for row in read_examples(path, labels=["late", "money"]).skipped] == [(2, reason)]
    assert sniff(path).labels == {"late": 3 - (column == "label"), "money": 3}
    second = list(iter_rows(path))[1]
    assert second == BadRow(2, "empty text") if column == "text" else second.label is None


def test_a_float_column_with_nan_has_whole_labels_and_none_called_nan(tmp_path):
    path = put(tmp_path, {"text": TEXTS, "label": [1.0, math.nan, 2.0, 1.0, 2.0, 1.0]}, "rows.parquet")
    assert sniff(path).labels == {"1": 3, "2": 2}


def test_words_for_nothing_are_labels_if_someone_wrote_them(tmp_path):
    path = put(tmp_path, [{"text": text, "label": label} for text, label in zip(TEXTS, ["nan", "NA", "null"] * 2, strict=True)])
    assert sniff(path).labels == {"nan": 2, "NA": 2, "null": 2}


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1.0, 2.0, 1, 2, "1.0", "2"], {"1", "2"}),
        ([True, False, "True", "FALSE", "true", "false"], {"true", "false"}),
        ([0.5, 2.5, "0.50", "2.5", 0.5, 2.5], {"0.5", "2.5"}),
        (
            ["2024-05-01", "2024-05-02", "2024-05-01T00:00:00", "2024-05-02", "2024-05-01", "2024-05-02"],
            {"2024-05-01", "2024-05-02"},
        ),
    ],
)
def test_labels_of_all_formats_are_those_of_the_task(values, labels, tmp_path):
    path = put(tmp_path, [{"text": text, "label": value} for text, value in zip(TEXTS, values, strict=True)])
    assert set(sniff(path).labels) == labels
    config = RunConfig.parse({"labels": {value: "x" for value in labels}, "data": {"train": "x.csv"}})
    assert {example.label for example in read_examples(path, labels=config.labels).examples} == labels


def test_task_names_are_spelled_as_files_are():
    names = RunConfig.parse({"labels": {"1.0": "x", 2.0: "y", "True": "z"}, "data": {"train": "x.csv"}}).labels
    assert list(names) == ["1", "2", "true"]
    with pytest.raises(ConfigError, match=r"'1' and '1.0' are one value, read as '1'"):
        RunConfig.parse({"labels": {"1": "x", "1.0": "y"}, "data": {"train": "x.csv"}})


def test_a_model_with_older_names_is_measured_by_value(tmp_path):
    path = put(tmp_path, [{"text": "a", "label": 1}, {"text": "b", "label": True}, {"text": "c", "label": "x"}])
    assert [row.label for row in iter_rows(path, labels=["1.0", "True", "y"])] == ["1.0", "True", "x"]
    several = iter_rows(path, labels=["1.0", "True"], separator="|")
    assert [row.label for row in several] == ["1.0", "True", "x"]


@pytest.mark.parametrize("own", [5, 5.5, True, {"a": 1}, [1, "b"], "x", 2**70])
def test_ids_are_what_they_were(own, tmp_path):
    path = put(tmp_path, [{"id": own, "text": "a"}])
    (row,) = iter_rows(path)
    assert row == Row(1, "a", own, None)
    assert type(row.id) is type(own)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("['a' 'b']", ["a", "b"]),
        ("[]", []),
        ('["it\'s"]', ["it's"]),
        ("{'a': 1, 'b': 0, 'c': 0.9}", ["a", "c"]),
        ({"a": True, "b": False}, ["a"]),
        (["a"], ["a"]),
        ("[x]", None),
        ("[a, b]", None),
        ("(none)", None),
        ("{unclear}", None),
        ("a;b", None),
        ("[" * 6000, None),
        ("['a'", None),
        ({"name": "a", "id": 7}, None),
        ({}, None),
    ],
)
def test_lists_are_noticed_however_they_were_written(cell, names):
    assert listed(cell) == names


def test_a_list_of_one_is_one_label_and_any_list_is_a_set():
    assert (one_label(["a"]), one_label("['a']"), one_label([]), one_label(["a", "b"]), one_label("a")) == (
        "a",
        "a",
        "",
        None,
        "a",
    )
    assert [as_labels(cell, "|") for cell in (["a", "b"], "['a', 'b']", "a|b", "[]", "")] == [
        "a + b",
        "a + b",
        "a + b",
        "(none)",
        "",
    ]


LISTS = {
    "python lists": ([["late"], ["late", "urgent"], ["money"], ["money"], ["late"], ["money"]], str, "|"),
    "json lists": ([["late"], ["late", "urgent"], ["money"], ["money"], ["late"], ["money"]], json.dumps, "|"),
    "lists and plain cells": (
        ["late", ["late", "urgent"], "money", "money", "late", "money"],
        lambda x: x if isinstance(x, str) else json.dumps({"choices": x}),
        "|",
    ),
    "an empty list": ([["late"], [], ["money"], ["money"], ["late"], ["money"]], str, "|"),
    "lists of one": ([[label] for label in HALF], str, None),
    "no lists": (HALF, str, None),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("file", ["rows.csv", "rows.jsonl"])
def test_lists_in_cells_make_the_kind_of_task(name, file, tmp_path):
    values, write, separator = LISTS[name]
    path = put(tmp_path, [{"text": text, "label": write(value)} for text, value in zip(TEXTS, values, strict=True)], file)
    look = sniff(path)
    assert look.separator == separator
    assert set(look.labels) == {"late", "money", *(["urgent"] if "urgent" in str(values) else [])}
    read = read_examples(path, labels=list(look.labels), separator=look.separator)
    assert [example.label for example in read.examples][:1] == ["late"]
    assert "label" in look.why


def test_lists_of_parquet_are_read(tmp_path):
    path = put(tmp_path, {"text": TEXTS, "labels": [[label] for label in HALF]}, "rows.parquet")
    assert sniff(path).labels == {"late": 3, "money": 3}
    words = put(tmp_path, {"tokens": [["Ann", "sat"], ["Oslo"]], "tags": [["B-person", "O"], ["B-place"]]}, "words.parquet")
    assert sniff_tagged(words).labels == {"person": 1, "place": 1}
    spans = put(tmp_path, {"text": ["Ann sat"], "label": [[{"start": 0, "end": 3, "label": "person"}]]}, "spans.parquet")
    assert sniff_tagged(spans).labels == {"person": 1}


def test_bytes_of_parquet_are_texts_where_they_can_be(tmp_path):
    path = put(tmp_path, {"text": [text.encode() for text in TEXTS[:5]] + [b"\xff\xfe"], "label": HALF}, "rows.parquet")
    read = read_examples(path, labels=["late", "money"], skip_bad=True)
    assert [example.text for example in read.examples] == TEXTS[:5]
    assert read.skipped[0].detail == "'text' holds bytes that are not UTF-8, expected a text"


def test_a_parquet_row_beyond_the_limit_is_an_error_of_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr("refsynth.data.parquet.ROW_LIMIT", 1000)
    path = put(tmp_path, {"text": ["a", "x" * 1001, "b"], "tags": [["t"], ["t"], ["t" * 1001]]}, "rows.parquet")
    found = list(iter_rows(path))
    assert [type(row) for row in found] == [Row, BadRow, BadRow]
    assert found[1].message == "longer than 1,000 bytes"


@pytest.mark.parametrize("compression", ["zstd", "gzip", "uncompressed"])
def test_a_parquet_file_that_unpacks_to_more_than_memory_allows_is_refused(compression, tmp_path, monkeypatch):
    polars = pytest.importorskip("polars")
    path = tmp_path / "rows.parquet"
    polars.DataFrame({"text": [f"{n} " * 100 for n in range(5000)], "label": ["a", "b"] * 2500}).write_parquet(
        path, compression=compression, row_group_size=2500
    )
    with path.open("rb") as stream:
        size = unpacked(stream)
    assert size is not None
    assert 500_000 < size < 3_000_000
    monkeypatch.setattr("refsynth.data.parquet.LARGEST", size - 1)
    with pytest.raises(DataError, match="a row group unpacks to"):
        sniff(path)
    monkeypatch.setattr("refsynth.data.parquet.LARGEST", size)
    assert sniff(path).rows == 5000


@pytest.mark.parametrize("footer", [b"", b"\x19", b"\x4c" * 500, b"\xff" * 50, bytes(range(256))])
def test_a_footer_that_says_nothing_is_none(footer):
    assert not unpacked(io.BytesIO(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"))


@pytest.mark.parametrize(
    ("answer", "kept"), [("accept", True), ("reject", False), ("ignore", False), ("maybe", True), (None, True)]
)
@pytest.mark.parametrize("file", ["rows.jsonl", "rows.csv"])
def test_labels_that_a_person_refused_are_left_out_and_counted(answer, kept, file, tmp_path):
    rows = [{"text": text, "label": label, "answer": "accept"} for text, label in zip(TEXTS, HALF, strict=True)]
    rows[0] |= {"label": "wrong", "answer": answer}
    path = put(tmp_path, rows, file)
    assert ("wrong" in sniff(path).labels) is kept
    read = read_examples(path, labels=["late", "money", "wrong"])
    assert [row.reason for row in read.skipped] == [] if kept else ["not accepted"]
    assert next(iter(iter_rows(path))).label == ("wrong" if kept else None)


def test_a_column_called_answer_may_be_the_label(tmp_path):
    path = put(tmp_path, [{"text": text, "answer": each} for text, each in zip(TEXTS, ["reject", "accept"] * 3, strict=True)])
    look = sniff(path, label_column="answer")
    assert look.labels == {"reject": 3, "accept": 3}
    assert len(read_examples(path, labels=list(look.labels), columns=Columns(label="answer")).examples) == 6


FLAGS = {
    "one in each row": ({"late": [1, 1, 0, 0, 1, 0], "money": [0, 0, 1, 1, 0, 1]}, None, {"late": 3, "money": 3}),
    "any number": ({"late": [1, 1, 0, 0, 1, 0], "money": [0, 1, 1, 0, 0, 1]}, "|", {"late": 3, "money": 3}),
    "true and false": ({"late": [True, False] * 3, "money": [True, True, False] * 2}, "|", {"late": 3, "money": 4}),
    "one that is never so": (
        {"late": [1, 1, 0, 0, 1, 0], "money": [0, 0, 1, 1, 0, 1], "spam": [0] * 6},
        None,
        {"late": 3, "money": 3, "spam": 0},
    ),
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("file", ["rows.csv", "rows.parquet"])
def test_columns_of_yes_and_no_are_labels(name, file, tmp_path):
    flags, separator, labels = FLAGS[name]
    path = put(tmp_path, {"id": range(6), "message": TEXTS, **flags}, file)
    look = sniff(path)
    assert (look.text_column, look.separator, look.labels) == ("message", separator, labels)
    assert look.label_column == " + ".join(flags)
    assert look.unused == ("id",)
    columns = Columns(text="message", label=list(flags))
    read = read_examples(path, labels=list(flags), columns=columns, separator=separator)
    assert len(read.examples) == 6
    assert read.examples[0].label == "late" if separator is None else read.examples[0].label.startswith("late")


def test_a_column_with_a_labels_name_comes_before_columns_of_yes_and_no(tmp_path):
    path = put(tmp_path, {"text": TEXTS, "label": HALF, "seen": [0, 1] * 3, "paid": [1, 0] * 3}, "rows.csv")
    look = sniff(path)
    assert (look.label_column, look.unused) == ("label", ("seen", "paid"))


def test_a_flag_that_is_neither_yes_nor_no_is_an_error_of_its_row(tmp_path):
    path = put(tmp_path, {"text": TEXTS, "late": [1, 0, 1, 0, 1, 0], "money": [0, 1, 0, 7, 0, 1]}, "rows.csv")
    with pytest.raises(DataError, match=r"row 4: 'late \+ money' is a JSON object, .*; it holds money: 7"):
        read_examples(path, labels=["late", "money"], columns=Columns(label=["late", "money"]), separator="|")


def test_texts_of_several_columns_are_one(tmp_path):
    rows = {
        "Subject": ["Late", None, "Bill", " "],
        "Message": ["where is it", "lost it", None, None],
        "label": ["a", "a", "b", "b"],
    }
    path = put(tmp_path, rows, "rows.csv")
    columns = Columns(text=["Subject", "Message"])
    read = read_examples(path, labels=["a", "b"], columns=columns)
    assert [example.text for example in read.examples] == ["Late where is it", "lost it", "Bill"]
    assert [row.reason for row in read.skipped] == ["empty text"]
    assert [getattr(row, "text", "") for row in iter_rows(path, columns=columns)][:3] == ["Late where is it", "lost it", "Bill"]
    assert sniff(path, text_column="Subject + Message").text_column == "Subject + Message"
    with pytest.raises(DataError, match="no column 'Body'"):
        sniff(path, text_column="Subject + Body")
    with pytest.raises(DataError, match=r"no column 'Subject \+ Body'"):
        list(iter_rows(path, columns=Columns(text=["Subject", "Body"])))


def test_a_column_that_is_called_like_several_is_itself(tmp_path):
    path = put(tmp_path, {"a + b": TEXTS, "a": ["x"] * 6, "b": ["y"] * 6, "label": HALF}, "rows.csv")
    assert next(iter(iter_rows(path, columns=Columns(text=["a", "b"])))).text == TEXTS[0]


@pytest.mark.parametrize("tags", [["B-per", "I-per", "O"], ["B-a", "O", "S-b"], ["U-a", "L-a", "O"]])
def test_tags_of_words_are_no_labels_of_texts(tags, tmp_path):
    path = put(tmp_path, {"word": ["Ann", "Lee", "sat"] * 2, "tag": tags * 2}, "rows.csv")
    with pytest.raises(DataError, match=r"column 'tag' has tags of words.*\n.*one row per sentence.*\n.*\.conll file"):
        sniff(path)
    assert "tags of words" in sniff(path, label_column="tag").notes[0]


def test_labels_that_look_like_tags_only_in_part_are_labels(tmp_path):
    path = put(tmp_path, {"text": TEXTS, "label": ["B-ware", "O", "money"] * 2}, "rows.csv")
    assert set(sniff(path).labels) == {"B-ware", "O", "money"}


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["late", "Late", "LATE", "money"], ["'late' and 'Late' and 'LATE'"]),
        (["R\u00e9clamation", "Re\u0301clamation", "b"], ["'R\u00e9clamation' and 'Re\u0301clamation'"]),
        (["no  reply", "no reply", "\uff41", "a"], ["'no  reply' and 'no reply'", "'\uff41' and 'a'"]),
        (["late", "later"], []),
    ],
)
def test_labels_that_may_be_one_are_named(labels, groups):
    note = describe_variants(labels)
    assert (note is None) == (not groups)
    assert all(group in (note or "") for group in groups)


def test_labels_are_merged_where_it_is_said(tmp_path):
    path = put(
        tmp_path,
        [{"text": text, "label": label} for text, label in zip(TEXTS, ["late", "LATE", "b", "B", "Late ", "b"], strict=True)],
    )
    read = read_examples(path, labels=["late", "b"], merge=True)
    assert [example.label for example in read.examples] == ["late", "late", "b", "b", "late", "b"]
    assert [row.label for row in iter_rows(path, labels=["late", "b"], merge=True)][:2] == ["late", "late"]
    with pytest.raises(DataError, match=r"row 2: label 'LATE' is not in task\.yaml"):
        read_examples(path, labels=["late", "b"])


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        (["text", "Text", "label"], "text", "label"),
        (["Text", "text", "Label", "label"], "text", "label"),
        (["Text", "Label"], "Text", "Label"),
    ],
)
def test_a_name_as_it_is_comes_before_one_in_other_case(columns, text, label, tmp_path):
    values = {column: HALF if column.lower() == "label" else TEXTS for column in columns}
    look = sniff(put(tmp_path, values, "rows.csv"))
    assert (look.text_column, look.label_column) == (text, label)


def test_a_column_of_one_value_is_no_label(tmp_path):
    look = sniff(put(tmp_path, {"text": TEXTS, "type": ["email"] * 6, "reason": HALF}, "rows.csv"))
    assert (look.label_column, look.unused) == ("reason", ("type",))
    alone = sniff(put(tmp_path, {"text": TEXTS, "type": ["email"] * 6}, "alone.csv"))
    assert alone.label_column == "type"  # nothing else there: reading it says that there is one label only


OPTIONS = {
    "label_column": {"text": TEXTS, "label": HALF, "topic": ["x", "y"] * 3},
    "text_column": {"text": TEXTS, "body": [text.upper() for text in TEXTS], "label": HALF},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_comes_before_what_was_found(option, tmp_path):
    wanted = {"label_column": "topic", "text_column": "body"}[option]
    assert getattr(sniff(put(tmp_path, OPTIONS[option], "rows.csv"), **{option: wanted}), option) == wanted


@pytest.mark.parametrize(("key", "option"), [("ner_tags", "label_column"), ("words", "text_column")])
def test_options_come_before_what_was_found_of_words(key, option, tmp_path):
    row = {"tokens": ["Ann", "sat"], "tags": ["B-person", "O"]}
    row[key] = row.pop("tags" if option == "label_column" else "tokens")
    names = {"text_column": "tokens", "label_column": "tags"} | {option: key}
    look = sniff_tagged(put(tmp_path, [row] * 3), **names)
    assert getattr(look, option) == key
    path = put(tmp_path, [row | {"tokens": ["Ann", "sat"], "tags": ["B-person", "O"]}] * 3)
    with pytest.raises(DataError, match="no column 'nope'"):
        sniff_tagged(path, **{option: "nope"}) or sniff(path, **{option: "nope"})


def test_the_pairs_second_text_is_taken_for_nothing_else(tmp_path):
    path = put(tmp_path, {"text": [f"{text} indeed" for text in TEXTS], "sentence": TEXTS, "label": HALF}, "rows.csv")
    assert sniff(path, pair_column="text").text_column == "sentence"


def test_many_labels_are_taken_from_a_column_that_is_named(tmp_path):
    path = put(tmp_path, {"text": [f"text {n}" for n in range(2002)], "label": [f"c{n // 2}" for n in range(2002)]}, "rows.csv")
    with pytest.raises(DataError, match="more than 1000 different values"):
        sniff(path)
    assert len(sniff(path, label_column="label").labels) == 1001


REASONS = {
    "an object for a label": (
        [{"text": text, "label": {"name": label, "id": 7}} for text, label in zip(TEXTS, HALF, strict=True)],
        [
            "column 'label'",
            "row 1: 'label' is a JSON object, expected a string or a number; it holds name: late, id: 7",
            "jq -c '.label = .label.name'",
        ],
    ),
    "objects in a list": (
        [{"text": text, "marks": [{"label": n % 2, "user": 1}]} for n, text in enumerate(TEXTS)],
        ["column 'marks'", "holds a JSON object", "jq -c '.label = .marks[0].label'"],
    ),
    "all rows in one object": (
        [{"data": [{"text": text, "label": "a"} for text in TEXTS]}],
        ["data (a JSON array)", "jq -c '.data[]'"],
    ),
    "rows inside rows": (
        [
            {"id": n, "row": {"text": text}, "said": [{"id": n, "result": [{"value": {"choices": ["a"]}}]}]}
            for n, text in enumerate(TEXTS)
        ],
        ["row (a JSON object)", "jq -c '. + .row | .label = .said[0].result[0].value.choices'"],
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_read_is_said_with_a_remedy_of_the_format(name, tmp_path):
    rows, parts = REASONS[name]
    with pytest.raises(DataError) as caught:
        sniff(put(tmp_path, rows))
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "first line" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "name", "part"),
    [
        ('{\n "text": "a",\n "label": "b"\n}\n', "rows.json", "this makes it so: jq -c . rows.json > flat.jsonl"),
        ("text,\nhello,a\nbye,b\nhello you,a\n", "rows.csv", "columns there: text, (no name)"),
        ("Tickets of May,\ntext,label\nhello,a\nbye,b\n", "rows.csv", "take out a title that stands above"),
        ("# exported\ntext,label\nhello,a\nbye,b\n", "rows.csv", "it has '# exported'; take out a title or a comment"),
    ],
)
def test_a_file_without_a_header_says_what_its_first_line_is(content, name, part, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        sniff(tmp_path / name)
    assert part in str(caught.value)


def test_no_usable_row_is_explained_by_the_columns_and_the_first_row(tmp_path):
    path = put(tmp_path, [{"text": text, "label": ["a", "b"]} for text in TEXTS])
    with pytest.raises(DataError) as caught:
        read_examples(path, labels=["a", "b"], skip_bad=True)
    assert "row 1: 'label' holds 2 labels (a, b)" in str(caught.value)
    assert "text from column text, label from column label" in str(caught.value)
