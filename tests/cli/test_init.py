"""`refsynth init` writes a task.yaml that loads, and says what it found."""

from __future__ import annotations

import csv
import io
import json
import shlex

import pytest
import typer
from typer.testing import CliRunner

from refsynth.cli.init import init
from refsynth.core.config import RunConfig
from refsynth.core.errors import InputError, RefsynthError
from refsynth.core.sections import Columns
from refsynth.data.io import read_examples
from refsynth.data.labels import describe_variants

app = typer.Typer()
app.command()(init)

ROWS = """message,intent
where is it,card_arrival
not here yet,card_arrival
Lost it,lost_card
lost it,card_arrival
,lost_card
stolen!,lost_card
my purse is gone,lost_card
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.exception
    return result.output


def fail(*arguments) -> RefsynthError:
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.output
    return result.exception


def test_from_a_file(tmp_path):
    (tmp_path / "tickets.csv").write_text(ROWS)
    assert succeed("tickets", "--from", "tickets.csv").splitlines() == [
        "tickets.csv: 7 rows, utf-8, comma, columns message (text), intent (label)",
        "  task: classify, one label for each text: one value in 'intent' per row",
        "  2 labels, 2 rows each; 1 row dropped: empty text (row 5)",
        "  1 text carries two labels (rows 3, 4): left out, listed in tickets/conflicts.csv",
        "wrote tickets/task.yaml - describe the labels there, it pays",
        "next: refsynth run tickets/task.yaml --out runs/tickets",
    ]
    config = RunConfig.load(tmp_path / "tickets" / "task.yaml")
    assert config.labels == {"card_arrival": "card arrival", "lost_card": "lost card"}
    assert config.data.columns == Columns(text="message", label="intent")
    assert config.data.train.resolve() == tmp_path / "tickets.csv"
    defaults = RunConfig(labels=config.labels)
    assert config.model_dump(exclude={"data"}) == defaults.model_dump(exclude={"data"})
    loaded = read_examples(
        config.data.train,
        labels=config.labels,
        columns=config.data.columns,
        delimiter=config.data.delimiter,
        encoding=config.data.encoding,
    )
    assert len(loaded.examples) == 4
    conflicts = list(csv.DictReader(io.StringIO((tmp_path / "tickets" / "conflicts.csv").read_text())))
    assert [row["row"] for row in conflicts] == ["3", "4"]


def test_the_next_command_is_quoted(tmp_path):
    said = succeed("Bob's tickets", "--labels", "a,b").splitlines()[-1]
    run = ["run", "Bob's tickets/task.yaml", "--out", "runs/Bob's tickets"]
    assert shlex.split(said) == ["next:", "refsynth", *run]
    head = (tmp_path / "Bob's tickets" / "task.yaml").read_text().splitlines()[0]
    assert shlex.split(head.partition("with: ")[2]) == ["refsynth", *run]


def test_every_line_is_explained(tmp_path):
    (tmp_path / "tickets.csv").write_text(ROWS)
    succeed("tickets", "--from", "tickets.csv", "--test", "tickets.csv")
    lines = (tmp_path / "tickets" / "task.yaml").read_text().splitlines()
    unexplained = [line.strip() for line in lines if "#" not in line]
    assert unexplained == ["card_arrival: card arrival", "lost_card: lost card", "text: message", "label: intent"]


@pytest.mark.parametrize(("options", "language"), [((), "en"), (("--language", "de"), "de"), (("--language", "auto"), "auto")])
def test_labels_alone_have_a_language(tmp_path, options, language):
    output = succeed("task", "--labels", "billing,outage", *options)
    assert RunConfig.load(tmp_path / "task" / "task.yaml").language == language
    assert ("language: en" in output) is (not options)  # what nobody said is told


def test_labels_alone(tmp_path):
    output = succeed("task", "--labels", "yes, no,1,ShippingDelay,x: y #z")
    assert output.startswith("wrote task/task.yaml")
    config = RunConfig.load(tmp_path / "task" / "task.yaml")
    assert config.labels == {"yes": "yes", "no": "no", "1": "1", "ShippingDelay": "Shipping Delay", "x: y #z": "x: y #z"}
    assert config.data.train is None


@pytest.mark.parametrize(
    "label", ["null", "~", "- a", "'", '"', "{a}", "*x", "!tag", "标签", "l" * 300, "0x1F", "a\u2028b", "😀", "?"]
)
def test_any_label_survives_the_file(tmp_path, label):
    (tmp_path / "rows.csv").write_text(f'text,label\nx,other\ny,"{label.replace(chr(34), chr(34) * 2)}"\n', encoding="utf-8")
    succeed("task", "--from", "rows.csv")
    assert list(RunConfig.load(tmp_path / "task" / "task.yaml").labels) == ["other", " ".join(label.split())]


def test_odd_columns_encoding_and_delimiter(tmp_path):
    (tmp_path / "rows.csv").write_bytes("yes: no;#label\nGrüße an alle;ä\nSchöne Straße;ö\nMühe;ä\nÄrger;ö\n".encode("cp1252"))
    output = succeed("task", "--from", "rows.csv", "--text-column", "yes: no", "--label-column", "#label")
    assert "4 rows, cp1252, semicolon, columns yes: no (text), #label (label)" in output
    data = RunConfig.load(tmp_path / "task" / "task.yaml").data
    assert data.columns == Columns(text="yes: no", label="#label")
    assert (data.encoding, data.delimiter) == (None, None)  # the test file may have others
    names = ("--text-column", "yes: no", "--label-column", "#label")
    succeed("other", "--from", "rows.csv", *names, "--encoding", "cp1252", "--delimiter", ";")
    data = RunConfig.load(tmp_path / "other" / "task.yaml").data
    assert (data.encoding, data.delimiter) == ("cp1252", ";")


def test_bad_rows_are_told_but_do_not_stop(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\nx,a\ny,b\nz,b,b\n")
    output = succeed("task", "--from", "rows.csv")
    assert "1 row dropped: malformed (row 3)" in output
    assert "row 3: 3 fields, but the header has 2; a text that holds the delimiter needs quotes - fix such rows" in output


def test_the_test_file_is_named_and_not_read(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\nx,a\ny,b\n")
    (tmp_path / "test.csv").write_bytes(b"\xff\xfe\x00garbage")
    succeed("task", "--from", "rows.csv", "--test", "test.csv")
    assert RunConfig.load(tmp_path / "task" / "task.yaml").data.test.resolve() == tmp_path / "test.csv"


def test_it_does_not_write_over_without_force(tmp_path):
    succeed("task", "--labels", "a,b")
    assert "--force" in str(fail("task", "--labels", "c,d"))
    assert "a" in RunConfig.load(tmp_path / "task" / "task.yaml").labels
    succeed("task", "--labels", "c,d", "--force")
    assert list(RunConfig.load(tmp_path / "task" / "task.yaml").labels) == ["c", "d"]


def test_conflicts_of_an_earlier_look_go(tmp_path):
    (tmp_path / "rows.csv").write_text(ROWS)
    succeed("task", "--from", "rows.csv")
    (tmp_path / "rows.csv").write_text(ROWS.replace("Lost it,lost_card\n", ""))
    succeed("task", "--from", "rows.csv", "--force")
    assert not (tmp_path / "task" / "conflicts.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task"], "--from FILE, or --labels"),
        (["task", "--labels", "a"], "at least two"),
        (["task", "--labels", "a,a"], "none twice"),
        (["task", "--from", "absent.csv"], "absent.csv: no such file"),
        (["task", "--labels", "a,b", "--test", "absent.csv"], "absent.csv: no such file"),
        (["task/file/under", "--labels", "a,b"], "cannot be written"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, arguments, message):
    if "under" in arguments[0]:
        (tmp_path / "task").mkdir()
        (tmp_path / "task" / "file").write_text("")
    assert message in str(fail(*arguments))
    assert not (tmp_path / "task" / "task.yaml").exists()


def test_a_long_path_does_not_swallow_its_comment(tmp_path):
    rows = tmp_path / ("a-folder-with-a-long-name" * 3) / "rows.csv"
    rows.parent.mkdir()
    rows.write_text("text,label\na b,x\nc d,x\ne f,y\ng h,y\n", "utf-8")
    result = CliRunner().invoke(app, [str(tmp_path / "task"), "--from", str(rows), "--test", str(rows)])
    assert result.exit_code == 0, result.output
    data = RunConfig.load(tmp_path / "task" / "task.yaml").data
    assert data.train is not None and data.train.is_file()
    assert data.test is not None and data.test.is_file()


MARKED, PLACED = {"text": "[Ann](person) sat"}, {"text": "Bo is in Oslo", "label": [[0, 2, "person"], [9, 13, "place"]]}
LISTED = {"tokens": ["Bo", "sat"], "tags": ["B-person", "O"]}


@pytest.mark.parametrize(
    "rows", [[PLACED], [MARKED, PLACED], [LISTED, MARKED], [MARKED, LISTED, PLACED], [{"text": "nobody", "label": []}, PLACED]]
)
def test_labels_of_words_are_noticed_in_lists_whatever_stands_before_them(tmp_path, rows):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    succeed("names", "--from", "rows.jsonl")
    config = RunConfig.load(tmp_path / "names" / "task.yaml")
    assert config.task == "tokens"
    loaded = read_examples(config.data.train, labels=config.labels, columns=config.data.columns, spans="marked", least_labels=1)
    assert len(loaded.examples) == len(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\n[Ann](person) sat\n", "not clear which column holds the label"),
        ("text,label\n[Ann](person) sat,\n", "fewer than two labels in column 'label'"),
        ("text,label\nAnn sat,0-1:person\n", "fewer than two labels in column 'label'"),
    ],
)
def test_words_are_named_where_a_file_has_marks_and_no_labels(tmp_path, content, message):
    (tmp_path / "rows.csv").write_text(content)
    error = fail("names", "--from", "rows.csv")
    assert message in str(error) and "--words" in error.remedy
    succeed("names", "--from", "rows.csv", "--words")
    assert RunConfig.load(tmp_path / "names" / "task.yaml").task == "tokens"


def test_why_no_row_has_labels_of_words_is_told(tmp_path):
    (tmp_path / "rows.conll").write_text("Ann B-a:b\nsat O\n\nBo B-\n")
    told = str(fail("names", "--from", "rows.conll"))
    assert "no labels of words in column" in told
    assert "row 1: the label 'a:b'" in told


def test_marks_beside_labels_are_told(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n[Ann](person) sat,x\nsee [docs](http://x.y),y\n")
    assert "--words and --force" in succeed("names", "--from", "rows.csv")
    (tmp_path / "rows.csv").write_text("text,label\nnot late,x\nsee [docs](http://x.y),y\n")
    assert "--words" not in succeed("links", "--from", "rows.csv")


@pytest.mark.parametrize("words", [(), ("--words",)])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "text,label\n", "no rows below the header"),
        ("rows.csv", "a,b\n", "no rows below the header"),
        ("rows.csv", 'text,label\n"a,b\n', "no row can be read; row 1: a quote"),
        ("rows.jsonl", "nope\n", "no row can be read; row 1: not valid JSON"),
    ],
)
def test_a_file_without_rows_is_called_that(tmp_path, words, name, content, message):
    (tmp_path / name).write_text(content)
    assert message in str(fail("none", "--from", name, *words))


LINES = {
    # what the user gives: options, content of rows.csv, lines that are said, of task.yaml
    "lists in cells": (
        [],
        "text,label\none,\"['a', 'b']\"\ntwo,['a']\nthree,['b']\nfour,['a']\n",
        ["  task: multilabel, any number of labels for each text: lists in 'label', not all with one label"],
        {"task": "multilabel"},
    ),
    "columns of yes and no": (
        [],
        "nr,message,late,dear\n1,where is it,1,0\n2,too much,0,1\n3,late and dear,1,1\n4,slow,1,0\n",
        [
            "  columns not used: nr",
            "  task: multilabel, any number of labels for each text: columns of yes and no are labels, not always one in a row",
        ],
        {"task": "multilabel", "columns": {"text": "message", "label": "late + dear", "id": "nr"}},
    ),
    "two columns for a text": (
        ["--text-column", "Subject + Message"],
        "Subject,Message,Topic,who\na,b c,x,1\nd,e f,y,2\ng,h,x,3\ni,j,y,4\n",
        ["  columns not used: who"],
        {"columns": {"text": "Subject + Message", "label": "Topic"}},
    ),
    "labels in two spellings": (
        [],
        "text,label\none,late\ntwo,Late\nthree,late\nfour,b\nfive,b\n",
        [f"  note: {describe_variants(['late', 'Late'])}"],
        {"labels": ["late", "Late", "b"], "merge": False},
    ),
    "labels merged": (
        ["--merge"],
        "text,label\none,Late\ntwo,late\nthree,late\nfour,b\nfive,b\n",
        ["  2 labels, 2 to 3 rows each"],
        {"labels": ["late", "b"], "merge": True},
    ),
    "quotes that are characters": (
        ["--quoting", "none"],
        'text,label\n"one" a,x\ntwo,y\nthree,x\n',
        ["  2 labels, 1 to 2 rows each"],
        {"quoting": "none"},
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_what_was_taken_is_said_and_runs_as_it_was_read(name, tmp_path):
    options, content, said, wanted = LINES[name]
    (tmp_path / "rows.csv").write_text(content)
    output = succeed("t", "--from", "rows.csv", *options).splitlines()
    assert [line for line in said if line not in output] == [], output
    config = RunConfig.load(tmp_path / "t" / "task.yaml")
    found = {
        "task": config.task,
        "labels": list(config.labels),
        "columns": config.data.columns.model_dump(exclude_none=True, exclude={"tags"}),
        "merge": config.data.merge,
        "quoting": config.data.quoting,
    }
    assert {key: found[key] for key in wanted} == wanted
    data = config.data
    read = read_examples(
        data.train, labels=config.labels, columns=data.columns, **data.written, separator=data.separator, merge=data.merge
    )
    assert len(read.examples) == content.count("\n") - 1


def test_tags_and_refused_rows_are_said(tmp_path):
    (tmp_path / "tok.csv").write_text("word,tag\nAnn,B-person\nsat,O\nTom,B-person\n")
    assert "write a .conll file" in str(fail("t", "--from", "tok.csv"))
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "answer": "reject" if n == 3 else "accept"} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "  2 labels, 2 to 3 rows each; 1 row dropped: not accepted (row 4)" in succeed("u", "--from", "rows.jsonl")


@pytest.mark.parametrize("options", [["--pair-column", "text"], ["--pair-column", "text", "--text-column", "text"]])
def test_a_pair_needs_two_columns(options, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\none,a\ntwo,b\nthree,a\n")
    assert "no other column holds a text" in str(fail("t", "--from", "rows.csv", *options))
