"""A first look at a file: which column is what."""

from __future__ import annotations

import json

import pytest

from refsynth.core.errors import DataError
from refsynth.data.sniff import sniff


@pytest.mark.parametrize("joined", ["Subject,Message", "Subject, Message", "Subject+Message", "Subject & Message"])
def test_several_columns_named_in_another_way_are_told_how(tmp_path, joined):
    path = tmp_path / "rows.csv"
    path.write_text("Subject,Message,label\nhi,where is it,late\nyo,lost it,late\nhm,charged twice,money\n", "utf-8")
    with pytest.raises(DataError, match=r'named with " \+ " between: "Subject \+ Message"'):
        sniff(path, text_column=joined)


def put(folder, content, name="rows.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("message,intent", "message", "intent"),
        ("Utterance,Category", "Utterance", "Category"),
        ("文本,标签", "文本", "标签"),
        ("body,class", "body", "class"),
    ],
)
def test_columns_by_their_names(tmp_path, header, text, label):
    found = sniff(put(tmp_path, f"{header}\none,a\ntwo,b\nthree,a\n"))
    assert (found.text_column, found.label_column) == (text, label)
    assert (found.labels, found.rows, found.encoding, found.delimiter) == ({"a": 2, "b": 1}, 3, "utf-8", ",")


def test_columns_by_their_values(tmp_path):
    rows = "".join(
        f"{i},2024-01-{i + 1:02d},this is what customer {i} wrote to us,{'yes' if i % 2 else 'no'}\n" for i in range(20)
    )
    found = sniff(put(tmp_path, "nr,day,wrote,refund\n" + rows))
    assert (found.text_column, found.label_column) == ("wrote", "refund")


def test_what_is_given_is_taken(tmp_path):
    path = put(tmp_path, "text,label,topic\none,a,x\ntwo,b,y\n")
    assert sniff(path, label_column="topic").labels == {"x": 1, "y": 1}
    assert sniff(path, text_column="topic").text_column == "topic"
    with pytest.raises(DataError, match="no column 'nope'\n  columns there: text, label, topic"):
        sniff(path, label_column="nope")


def test_jsonl_counts_all_rows_and_passes_over_bad_ones(tmp_path):
    lines = [json.dumps({"text": f"text {i}", "label": i % 3}) for i in range(5000)]
    found = sniff(put(tmp_path, "\n".join(["nope", *lines]), "rows.jsonl"))
    assert (found.format, found.rows, found.labels) == ("jsonl", 5000, {"0": 1667, "1": 1667, "2": 1666})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\nx1,y1\nx2,y2\n", "not clear which column holds the label"),
        ("where is it,order\nlost it,card\nhow,order\nwhy,card\nso?,order\n", "the first line looks like a row"),
        ("text,label\n" + "".join(f"t,{i}\n" for i in range(1500)), "more than 1000 different values"),
        ("", "is empty"),
    ],
)
def test_what_is_not_clear_is_said(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        sniff(put(tmp_path, content))
