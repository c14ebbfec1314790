"""Held-out rows as a file, the report of an earlier run, and two runs compared on the rows that both held out."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.core.errors import InputError
from refsynth.core.files import read_json, read_jsonl
from refsynth.core.task import Task
from refsynth.data.cells import harmless
from refsynth.evaluation.compare import compare_runs
from refsynth.evaluation.heldout import COLUMNS, read_rows, write_rows
from refsynth.evaluation.mistakes import SHOWN, HeldRow, Mistakes, ranked
from refsynth.evaluation.report import render_html, render_markdown
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.reports import HOSTILE, Outline, example
from tests.support.runs import Told, make_task

FAST = {"synthesis": {"drafts": 0}, "learners": ["tfidf"]}


def row(number, *, right=True, confidence=0.5, text="", label="a", score=None):
    score = float(right) if score is None else score
    return HeldRow(
        id=f"row-{number}",
        text=text or f"text {number}",
        label=label,
        answer=label if right else "b",
        confidence=confidence,
        unsure=confidence < 0.5,
        right=right,
        score=score,
    )


def test_the_most_confident_mistake_comes_first():
    rows = [
        row(1, confidence=0.9),
        row(2, right=False, confidence=0.6),
        row(3, right=False, confidence=0.8),
        row(4, confidence=0.4),
    ]
    assert [each.id for each in ranked(rows)] == ["row-3", "row-2", "row-4", "row-1"]
    found = Mistakes.of(ranked([row(n, right=False, confidence=n / 20) for n in range(15)] + rows))
    assert (found.n, found.wrong, len(found.rows), found.rows[0].id) == (19, 17, SHOWN, "row-3")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋"])
def test_no_cell_is_a_formula(tmp_path, start):
    text = f'{start}cmd|" /C calc"!A0'
    assert harmless(text) == f"'{text}"
    assert harmless(f"a{text}") == f"a{text}"
    write_rows(tmp_path / "rows.csv", [row(1, text=text, label=text)])
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        (record,) = csv.DictReader(stream)
    assert {record[name][0] for name in ("text", "label", "answer")} == {"'"}


def test_what_is_written_is_read_again(tmp_path):
    rows = [row(1, text='a "b",\n c', confidence=0.1234), row(2, right=False, score=0.6667), row(3, text="汉\u202e")]
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows
    write_rows(tmp_path / "rows.csv", None)
    assert not (tmp_path / "rows.csv").exists()


def test_wrong_rows_are_shown_and_are_no_markup():
    rows = tuple(row(n, right=False, text=HOSTILE, label=HOSTILE) for n in range(3))
    report = replace(example(n=60), mistakes=Mistakes(n=40, wrong=3, rows=rows))
    outline = Outline(render_html(report))
    shown = " ".join("".join(outline.text).split())
    assert "3 of 40 held-out rows of the training file are answered wrongly" in shown
    assert "</script><img src=x onerror=alert(1)>" in shown
    assert not outline.tags["script"] and not outline.tags["img"]
    table = [line for line in render_markdown(report).splitlines() if line.startswith(r"| row-")]
    assert len(table) == 3
    assert all("<" not in line for line in table)
    right = replace(report, mistakes=Mistakes(n=40, wrong=0, rows=()))
    for page in (render_html(right), render_markdown(right)):
        assert "all 40 held-out rows of the training file are answered correctly" in page


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def task(where):
    return make_task(where / "data", **FAST)


@pytest.fixture(scope="module")
def first(where, task, tiny_cache):
    return run(task, where / "first", store=ModelStore(tiny_cache))


@pytest.fixture(scope="module")
def second(where, task, tiny_cache):
    """Another seed, and a training file that has lost one row and gained another label for one."""
    rows = [*read_jsonl(task.train)]
    rows[0]["label"] = "broken" if rows[0]["label"] == "late" else "late"
    other = where / "other.jsonl"
    other.write_text("".join(json.dumps(each) + "\n" for each in rows[:-1]), "utf-8")
    changed = Task.of(task.config.changed([f"data={json.dumps({'train': str(other)})}", "seed=5"]))
    return run(changed, where / "second", store=ModelStore(tiny_cache))


def test_the_file_has_each_row_as_the_report_counts_it(first, task):
    rows = read_rows(first.evidence.folder.path / "held_out.csv")
    given = {record["text"]: record["label"] for record in read_jsonl(task.train)}
    assert {each.text: each.label for each in rows} == given
    assert sum(each.right for each in rows) / len(rows) == pytest.approx(first.report.results.crossed.value)
    assert (first.report.mistakes.n, first.report.mistakes.wrong) == (len(rows), sum(not each.right for each in rows))
    assert [each.right for each in rows] == sorted(each.right for each in rows)


def test_each_row_says_where_it_is(first, task):
    lines = task.train.read_text("utf-8").splitlines()
    for each in read_rows(first.evidence.folder.path / "held_out.csv"):
        assert json.loads(lines[each.sheet_row - 1])["text"] == each.text
        assert (each.file, each.where) == (task.train.name, f"line {each.sheet_row}")
    wrong = replace(row(7, right=False), file="Mails.xlsx", sheet_row=8, own_id="T|1")
    report = replace(first.report, mistakes=Mistakes.of([wrong]))
    assert "| row-7 (T\\|1, sheet row 8) |" in render_markdown(report) and "T|1, sheet row 8" in render_html(report)


def test_what_a_run_before_left_does_not_pass_for_that_of_one_that_failed(task, tmp_path, tiny_cache, monkeypatch):
    store, out = ModelStore(tiny_cache), tmp_path / "out"
    run(task, out, store=store)
    before = (out / "held_out.csv").read_bytes()
    other = Task.of(task.config.changed(["seed=4"]))

    def fail(*arguments, **options):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("refsynth.pipeline.flow.run_stages", fail)
        for again in range(2):
            with pytest.raises(OSError, match="full"):
                run(other, out, store=store)
            assert not [name for name in ("held_out.csv", "report.json", "report.html") if (out / name).exists()], again
            with pytest.raises(InputError, match="no held-out rows"):
                compare_runs(out, out)
        assert (out / "reports" / "0001-held_out.csv").read_bytes() == before
    run(other, out, store=store)
    assert (out / "held_out.csv").read_bytes() != before
    with monkeypatch.context() as patched:
        patched.setattr("refsynth.pipeline.flow.run_stages", fail)
        with pytest.raises(OSError, match="full"):
            run(other, out, store=store)  # the same again: what is there is its own
    assert (out / "held_out.csv").exists()


def test_runs_are_compared_on_the_rows_that_both_held_out(first, second):
    paths = [done.evidence.folder.path for done in (first, second)]
    found = compare_runs(*paths)
    assert (found.own[0].n, found.own[1].n, found.n) == (12, 11, 10)  # one is gone, one has another label
    held = [{each.text: each for each in read_rows(path / "held_out.csv")} for path in paths]
    both = [text for text, each in held[0].items() if text in held[1] and held[1][text].label == each.label]
    assert found.gain.value == pytest.approx(sum(held[1][text].score - held[0][text].score for text in both) / 10)
    assert found.won == sum(held[1][text].right and not held[0][text].right for text in both)
    assert "is not distinguishable from chance" in found.verdict
    back = compare_runs(*reversed(paths))
    assert (back.gain.value, back.won, back.lost) == (pytest.approx(-found.gain.value), found.lost, found.won)


def test_the_command_says_the_same_to_people_and_programs(first, second):
    paths = [str(done.evidence.folder.path) for done in (first, second)]
    told, plain = (CliRunner().invoke(app, ["compare", *paths, *more]) for more in (["--json"], []))
    tree = json.loads(told.stdout)
    assert tree["verdict"] in " ".join(plain.stdout.split())
    assert (tree["n"], tree["gain"]["n"], tree["both"][0]["name"]) == (10, 10, "accuracy")


@pytest.mark.parametrize(
    ("right", "said"), [((0, 30), "two is better"), ((30, 0), "one is better"), ((14, 16), "not distinguishable from chance")]
)
def test_the_verdict_follows_the_interval(tmp_path, first, right, said):
    for name, count in zip(("one", "two"), right, strict=True):
        shutil.copytree(first.evidence.folder.path, tmp_path / name)
        words = "alpha bravo cedar delta eagle fjord"
        rows = [row(n, right=n < count, text=f"{hash_words(n)} {words[n % 30 :]}") for n in range(30)]
        write_rows(tmp_path / name / "held_out.csv", rows)
    found = compare_runs(tmp_path / "one", tmp_path / "two")
    assert said in found.verdict


def hash_words(number):
    """Words that no two numbers have in common."""
    return " ".join(chr(97 + (number * 7 + place * 11) % 26) * (4 + number % 5) + str(number) for place in range(6))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: shutil.rmtree(run), "not a run folder"),
        (lambda run: (run / "held_out.csv").unlink(), "no held-out rows to compare by"),
        (lambda run: (run / "held_out.csv").write_text("a,b\n1,2\n"), "is not as refsynth wrote it"),
        (lambda run: (run / "held_out.csv").write_bytes(b"\xff\xfe\x00"), "is not as refsynth wrote it"),
        (lambda run: (run / "held_out.csv").write_text(",".join(COLUMNS) + "\nrow-1,t\n"), "is not as refsynth wrote it"),
        (lambda run: (run / "held_out.csv").write_text(",".join(COLUMNS) + "\n"), "no rows"),
        (lambda run: write_rows(run / "held_out.csv", [row(1, text="nobody has it")]), "no row with the same text and label"),
    ],
)
def test_what_cannot_be_compared_is_said(first, tmp_path, spoil, said):
    whole, other = first.evidence.folder.path, shutil.copytree(first.evidence.folder.path, tmp_path / "other")
    spoil(other)
    for pair in ((whole, other), (other, whole)):
        with pytest.raises(InputError, match=said):
            compare_runs(*pair)


def test_runs_of_different_kinds_are_not_compared(first, tmp_path):
    other = shutil.copytree(first.evidence.folder.path, tmp_path / "other")
    record = read_json(other / "task.json")
    record["config"] |= {"task": "multilabel", "learners": ["tfidf"], "selftrain": {"per_class": 0}}
    (other / "task.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(InputError, match="task classify and task multilabel"):
        compare_runs(first.evidence.folder.path, other)


def test_a_second_run_keeps_the_report_of_the_first(task, tmp_path, tiny_cache):
    store, out = ModelStore(tiny_cache), tmp_path / "out"
    kept = []
    for seed, expected in ((0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (0, 3)):
        watch = Told()
        page = (out / "report.json").read_text("utf-8") if out.exists() else ""
        run(Task.of(task.config.changed([f"seed={seed}"])), out, store=store, watch=watch)
        aside = sorted(path.name for path in (out / "reports").glob("*.json")) if (out / "reports").exists() else []
        assert len(aside) == expected
        if len(aside) > len(kept):
            assert (out / "reports" / aside[-1]).read_text("utf-8") == page
            assert any(f"the report of the run before is kept: {out / 'reports' / aside[-1][:4]}" in note for note in watch.notes)
        kept = aside
    assert kept == ["0001-report.json", "0002-report.json", "0003-report.json"]
    assert (out / "reports" / "0001-held_out.csv").is_file()
