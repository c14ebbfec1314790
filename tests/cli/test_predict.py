"""Tokens, batches, and the commands `predict` and `evaluate`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from refsynth import bundle
from refsynth.cli.predict import CHUNK, PredictionTally, records
from refsynth.core.errors import DataError, ModelError
from refsynth.core.intervals import INTERVALS, accuracy_interval
from refsynth.core.types import Prediction
from refsynth.data.rows import BadRow, Row
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.tokenizer import TextTokenizer, length_batches
from tests.support.predicting import LABELS, lines, run, save_spotter
from tests.support.tiny_encoder import make_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_spotter(tmp_path_factory.mktemp("bundles") / "b")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


class TestTokens:
    def test_padding_of_the_file_is_undone_and_texts_are_cut(self, path: Path) -> None:
        rows = TextTokenizer(path, max_tokens=6).encode(["a", "a b c d e f g h", ""])
        assert [len(row) for row in rows] == [3, 6, 2]
        assert rows[1][-1] == rows[0][-1]  # the closing special token stays

    def test_a_prefix_goes_before_each_text(self, path: Path) -> None:
        plain, prefixed = (TextTokenizer(path, max_tokens=20, prefix=prefix) for prefix in ("", "a: "))
        assert prefixed.encode(["b"]) == plain.encode(["a: b"])

    @pytest.mark.parametrize("parallel", [True, False])
    @given(texts=st.lists(st.text(st.characters(codec=None), max_size=20), max_size=5))
    def test_any_text_gets_between_one_and_max_tokens(self, path: Path, parallel: bool, texts: list[str]) -> None:
        rows = TextTokenizer(path, max_tokens=8, parallel=parallel).encode(texts)
        assert len(rows) == len(texts)
        assert all(1 <= len(row) <= 8 for row in rows)

    def test_a_very_long_line_costs_what_a_page_costs(self, path: Path) -> None:
        tokenizer = TextTokenizer(path, max_tokens=8)
        assert tokenizer.encode(["a b " * 10_000_000]) == tokenizer.encode(["a b " * 10])

    def test_a_file_that_is_no_tokenizer_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "t.json").write_text("{}")
        with pytest.raises(ModelError, match="not a tokenizer"):
            TextTokenizer(tmp_path / "t.json", max_tokens=8)

    def test_a_graph_that_is_none_is_refused(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "g.onnx").write_bytes(b"no graph")
        with pytest.raises(ModelError, match="not a graph"):
            OnnxEncoder(tmp_path / "g.onnx", path, max_tokens=8)
        with pytest.raises(ModelError, match="not a graph"):
            OnnxEncoder(tmp_path / "absent.onnx", path, max_tokens=8)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 100))
def test_batches_hold_each_row_once_and_keep_to_the_budget(lengths: list[int], tokens: int) -> None:
    rows = [[0] * length for length in lengths]
    batches = list(length_batches(rows, tokens=tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        width = max(lengths[index] for index in batch)
        assert len(batch) == 1 or width * len(batch) <= tokens
    order = [lengths[index] for batch in batches for index in batch]
    assert order == sorted(order)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_head_checks_its_shapes(d: int, k: int, other: int) -> None:
    if other == k:
        assert LinearHead(np.zeros((d, k)), np.zeros(k)).logits(np.zeros((2, d))).shape == (2, k)
    else:
        with pytest.raises(ModelError):
            LinearHead(np.zeros((d, k)), np.zeros(other))


class Counting:
    """A model that remembers the largest list that it was given."""

    largest, tells_none = 0, False

    def answer(self, texts: Sequence[str]) -> SimpleNamespace:
        self.largest = max(self.largest, len(texts))
        return SimpleNamespace(exit_confidence=np.ones(len(texts)))

    def predictions(self, texts: Sequence[str], found: SimpleNamespace) -> list[Prediction]:
        assert len(found.exit_confidence) == len(texts)
        return [Prediction("a", {"a": 1.0}, abstain=text == "unsure") for text in texts]


@given(st.lists(st.sampled_from(["good", "unsure", "bad"]), max_size=3 * CHUNK))
def test_every_row_gives_one_record_in_order(kinds: list[str]) -> None:
    rows = [BadRow(i, "broken") if kind == "bad" else Row(i, kind, None, None) for i, kind in enumerate(kinds)]
    tally, model = PredictionTally(), Counting()
    found = list(records(model, rows, tally))
    assert [record["row"] for record in found] == list(range(len(rows)))
    assert ["error" in record for record in found] == [kind == "bad" for kind in kinds]
    assert (tally.rows, tally.unsure, tally.unreadable) == (len(rows), kinds.count("unsure"), kinds.count("bad"))
    assert model.largest <= CHUNK


def test_prediction_streams_without_reading_ahead() -> None:
    taken = 0

    def endless() -> Iterator[Row]:
        nonlocal taken
        while True:
            taken += 1
            yield Row(taken, "good", None, None)

    stream = records(Counting(), endless(), PredictionTally())
    for _ in range(2 * CHUNK):
        next(stream)
    assert taken == 2 * CHUNK


class TestPredictCommand:
    def test_rows_ids_and_errors_come_out_in_order(self, folder: Path) -> None:
        stdin = '{"text": "my card", "id": "x1"}\n{"text": 5}\nnot json\n{"text": "hello"}\n'
        result = run("predict", folder, stdin=stdin)
        first, second, third, fourth = lines(result)
        assert result.exit_code == 0
        assert (first["row"], first["id"], first["label"], first["abstain"]) == (1, "x1", "card", False)
        assert set(first["probabilities"]) == set(LABELS)
        assert (set(second), set(third)) == ({"row", "error"}, {"row", "error"})
        assert fourth["abstain"] is True  # no known word: all labels alike, below the threshold
        assert "id" not in fourth
        assert "4 rows: 2 predicted (1 unsure), 2 unreadable" in result.stderr

    def test_a_csv_file_with_a_named_column(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "in.csv").write_text('message,n\n"a loan, please",1\ncard,2\n', encoding="utf-8")
        result = run("predict", folder, tmp_path / "in.csv", "--text", "message")
        assert [record["label"] for record in lines(result)] == ["loan", "card"]

    def test_an_absent_file_and_column_are_errors_for_a_person(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "in.csv").write_text("a,b\n1,2\n")
        with pytest.raises(DataError, match="no such file"):
            run("predict", folder, tmp_path / "absent.csv")
        with pytest.raises(DataError, match="no column 'Message'"):
            run("predict", folder, tmp_path / "in.csv")

    def test_a_reader_that_has_enough_ends_it_quietly(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("my card\n" * 20_000)
        code = "import sys, typer; from refsynth.cli.predict import predict; typer.run(predict)"
        command = [sys.executable, "-c", code, str(folder), str(tmp_path / "in.txt")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            process.stdout.close()
            errors = process.stderr.read()
        assert (process.returncode, errors) == (0, b"")
        assert json.loads(first)["row"] == 1

    def test_no_rows_are_no_error(self, folder: Path) -> None:
        result = run("predict", folder)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "0 rows" in result.stderr


class TestEvaluateCommand:
    ROWS = (
        ("my card", "card"),
        ("a card", "loan"),
        ("loan", "loan"),
        ("other", "[bold]other"),
        ("hello", "card"),
        ("card", "crad"),
        ("card", ""),
        ("", "card"),
    )

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "test.jsonl"
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in self.ROWS) + "{broken\n")
        return path

    def test_figures_are_those_of_the_scored_rows(self, folder: Path, file: Path) -> None:
        result = run("evaluate", folder, file, "--json")
        figures = json.loads(result.stdout)
        truth, predicted = [0, 1, 1, 2, 0], [0, 0, 1, 2, 0]
        assert (figures["rows"], figures["evaluated"]) == (9, 5)
        assert (figures["unreadable"], figures["unlabeled"], figures["unknown_label"]) == (2, 1, 1)
        assert figures["accuracy"]["value"] == 0.8
        assert figures["accuracy"]["low"] == accuracy_interval(np.array(truth), np.array(predicted)).low
        assert figures["macro_f1"]["value"] == pytest.approx(f1_score(truth, predicted, average="macro"))
        assert figures["coverage"] == 0.8  # all but `hello`
        said = bundle.load(folder).probabilities([text for text, _ in self.ROWS[:5]])
        assert figures["brier"] == pytest.approx(brier_score_loss(truth, said, labels=range(3), scale_by_half=False))
        assert figures["log_loss"] == pytest.approx(log_loss(truth, said, labels=range(3)))
        assert figures["accuracy_answered"]["value"] == 0.75
        assert figures["classes"][1] == {"label": "loan", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "rows": 2}
        assert "did you mean 'card'?" in result.stderr

    def test_a_person_gets_the_same_in_words(self, folder: Path, file: Path) -> None:
        text = run("evaluate", folder, file).stdout
        assert "5 rows; left out: 2 unreadable, 1 unlabeled, 1 unknown label" in text
        assert "accuracy           80.0 [" in text
        assert re.search(r"\nBrier score        \d\.\d{3}\nlog loss           \d\.\d{3} nats\n", text)
        assert "unsure on          20.0% (accuracy on the rest 75.0 [" in text
        assert "[bold]other" in text  # a label is no markup
        assert INTERVALS in " ".join(text.split())

    def test_copies_of_rows_do_not_make_it_surer(self, folder: Path, tmp_path: Path) -> None:
        rows = [{"text": text, "label": label} for text, label in self.ROWS[:5]]
        copies = [{**row, "text": f" {row['text'].upper()} "} for row in rows]  # equal when case and space are made so
        once, twice = ("".join(json.dumps(row) + "\n" for row in some) for some in (rows, [*rows, *copies]))
        (tmp_path / "once.jsonl").write_text(once)
        (tmp_path / "twice.jsonl").write_text(twice)
        alone, joined = (
            json.loads(run("evaluate", folder, tmp_path / f"{name}.jsonl", "--json").stdout) for name in ("once", "twice")
        )
        assert (alone["evaluated"], joined["evaluated"]) == (5, 10)
        assert alone["intervals"] == joined["intervals"] == INTERVALS
        for figure in ("accuracy", "macro_f1", "accuracy_answered"):
            assert joined[figure]["low"] == pytest.approx(alone[figure]["low"])
            assert joined[figure]["high"] == pytest.approx(alone[figure]["high"])

    def test_a_file_without_usable_rows_names_the_remedy(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "in.csv").write_text("text,intent\nmy card,card\n")
        with pytest.raises(DataError, match="--label"):
            run("evaluate", folder, tmp_path / "in.csv")
        with pytest.raises(DataError, match="did you mean 'card'"):
            (tmp_path / "in.jsonl").write_text('{"text": "a", "label": "crad"}\n')
            run("evaluate", folder, tmp_path / "in.jsonl")

    def test_columns_are_named(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "in.csv").write_text("message,intent\nmy card,card\n")
        figures = json.loads(
            run("evaluate", folder, tmp_path / "in.csv", "--text", "message", "--label", "intent", "--json").stdout
        )
        assert figures["accuracy"]["value"] == 1
