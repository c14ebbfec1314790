"""Texts that are longer than an encoder reads at once: what is read of them, alike in training and in a bundle, and said."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import refsynth
from refsynth.cli.app import app
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.task import Task
from refsynth.core.windows import REACH, Frame, head_and_tail, joined, reach_of, split_rows, word_parts
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.static import StaticPredictor
from refsynth.models.store import ModelStore
from refsynth.models.tokenizer import TextTokenizer
from refsynth.pipeline.begin import long_notes
from refsynth.pipeline.flow import run
from tests.support.tiny_encoder import MAX_TOKENS

FRAME = Frame(1, 1)
SHORT, LONG = "where is my parcel", " ".join(f"word{n} parcel refund card" for n in range(14))
ENDLESS = "parcel " * (MAX_TOKENS * REACH + 50)


@given(st.integers(1, 400), st.integers(4, 40), st.integers(0, 2))
def test_windows_hold_each_token_once_and_in_order(size, longest, back):
    frame = Frame(1, back)
    ids = [-1, *range(size), *[-2] * back]
    split = split_rows([ids, [-1, 7]], longest, frame)
    assert all(len(row) <= longest and row[0] == -1 for row in split.rows)
    inner = [one for row, owner in zip(split.rows, split.owners, strict=True) if owner == 0 for one in row[1 : len(row) - back]]
    assert inner == list(range(size))
    assert list(split.rows[-1]) == [-1, 7]
    assert split.owners[-1] == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=120), st.integers(5, 40))
def test_each_word_is_read_once_and_with_what_stands_around_it(sizes, longest):
    ends = (1 + np.cumsum(sizes)).tolist()
    starts = [1, *ends[:-1]]
    ids = list(range(ends[-1] + 1))
    parts = word_parts(ids, starts, ends, longest, FRAME)
    assert all(len(part.ids) <= longest and part.ids[0] == 0 and part.ids[-1] == ids[-1] for part in parts)
    places = [(part.ids[start], end - start) for part in parts for start, end in zip(part.starts, part.ends, strict=True)]
    assert [place for place, _ in places] == starts
    assert all(0 < read <= size for (_, read), size in zip(places, sizes, strict=True))
    if max(sizes) <= (longest - 2) // 8 and len(parts) > 2:  # words at a window's edge are taken from the other one
        assert all(part.starts[0] > 1 and part.ends[-1] < len(part.ids) - 1 for part in parts[1:-1])


def test_the_mean_is_weighted_by_tokens_and_as_long_as_its_windows():
    split = split_rows([[0, *range(1, 10), 0], [0, 5, 0]], 6, FRAME)
    vectors = np.eye(3, 4, dtype=np.float32)[[0, 1, 2, 0]][: len(split.rows)]
    found = joined(vectors, split, 2)
    weighted = (split.sizes[:-1, None] * vectors[:-1]).sum(0)
    np.testing.assert_allclose(found[0], weighted / np.linalg.norm(weighted), atol=1e-6)
    np.testing.assert_array_equal(found[1], vectors[-1])


def test_head_and_tail_are_of_one_size():
    assert head_and_tail(list(range(10)), 4) == [0, 1, 8, 9]
    assert head_and_tail(list(range(10)), 5) == [0, 1, 2, 8, 9]
    assert head_and_tail([1, 2], 4) == [1, 2]


@pytest.mark.parametrize("windows", ["cut", "head_tail", "mean"])
@pytest.mark.parametrize("prefix", ["", "query: "])
def test_training_and_serving_read_the_same(tiny_folder, windows, prefix):
    encoder = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS, windows=windows, prefix=prefix).eval()
    tokenizer = TextTokenizer(tiny_folder / "tokenizer.json", max_tokens=MAX_TOKENS, windows=windows, prefix=prefix)
    texts = [SHORT, LONG, ENDLESS, ""]
    assert encoder.tokenize(texts) == tokenizer.encode(texts)
    assert encoder.frame == tokenizer.frame
    cut = [text for text in texts if tokenizer.truncates(text)]
    assert cut == ([ENDLESS] if windows == "mean" else [LONG, ENDLESS])
    assert encoder.longer(texts) == (2, len(cut))
    together, alone = encoder.encode(texts), np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(encoder.tokenize(texts)).detach().numpy(), together, atol=1e-5)
    plain = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS, prefix=prefix).eval()
    np.testing.assert_array_equal(plain.encode([SHORT]), encoder.encode([SHORT]))
    assert (windows == "cut") == bool(np.allclose(plain.encode([LONG]), encoder.encode([LONG])))


@pytest.mark.parametrize("windows", ["cut", "head_tail", "mean"])
@pytest.mark.parametrize("text", [SHORT, LONG, ENDLESS])
def test_what_each_token_adds_is_of_what_is_read(tiny_folder, windows, text):
    tokenizer = TextTokenizer(tiny_folder / "tokenizer.json", max_tokens=MAX_TOKENS, special=False, windows=windows)
    votes = np.random.default_rng(0).normal(size=(tokenizer.size, 2)).astype(np.float32)
    model = StaticPredictor(("a", "b"), tokenizer, LinearHead(votes, np.zeros(2, np.float32)))
    words, parts = model.parts(text)
    assert len(words) == len(parts)
    np.testing.assert_allclose(parts.sum(0), model.logits([text])[0], atol=1e-5)


def test_a_limit_is_kept_whatever_the_windows(tiny_folder):
    for windows in ("cut", "head_tail", "mean"):
        encoder = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS, windows=windows)
        assert max(map(len, encoder.tokenize([LONG], limit=10))) == 10
        assert len(encoder.words([LONG], limit=10)[0].ids) == 10


def test_words_of_long_texts_are_read_in_both_tokenizers(tiny_folder):
    encoder = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS, windows="mean").eval()
    tokenizer = TextTokenizer(tiny_folder / "tokenizer.json", max_tokens=MAX_TOKENS, windows="mean")
    rows = encoder.words([SHORT, LONG])
    assert rows == tokenizer.words([SHORT, LONG])
    assert len(rows[1].words) == rows[1].n == 56
    assert not tokenizer.truncates(LONG, words=True)
    assert tokenizer.truncates(ENDLESS * 5, words=True)
    states = encoder.states(rows)
    assert [len(each) for each in states] == [4, 56]
    np.testing.assert_allclose(states[1], encoder.states(rows[1:])[0], atol=1e-5)
    begin = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS).eval()
    whole = begin.states(begin.words([LONG]))[0]
    np.testing.assert_allclose(states[1][: len(whole) // 2], whole[: len(whole) // 2], atol=0.1)  # the other ends inside a word


@pytest.mark.parametrize(
    ("longer", "cut", "windows", "told"),
    [
        (0, 0, "mean", []),
        (1, 1, "cut", ["1 row has more than 128 tokens: only the first 128 of each are read (training.windows: cut)"]),
        (
            2,
            2,
            "head_tail",
            ["2 rows have more than 128 tokens: only the first and the last 64 of each are read (training.windows: head_tail)"],
        ),
        (3, 0, "mean", ["3 rows have more than 128 tokens: they are read in windows (training.windows: mean)"]),
        (
            3,
            1,
            "mean",
            [
                "3 rows have more than 128 tokens: they are read in windows, 1 of them only up to window 16 "
                "(training.windows: mean)"
            ],
        ),
    ],
)
def test_a_run_says_what_is_read_of_long_rows(longer, cut, windows, told):
    assert long_notes(longer, cut, 128, windows) == told


@pytest.mark.parametrize(
    ("tree", "windows"),
    [
        ({}, "mean"),
        ({"training": {"windows": "head_tail"}}, "head_tail"),
        ({"task": "pairs", "data": {"train": "x.csv"}}, "cut"),
    ],
)
def test_what_is_read_unless_something_is_asked(tree, windows):
    assert RunConfig.parse({"labels": {"a": "a", "b": "b"}, **tree}).windows == windows


@pytest.mark.parametrize(
    ("task", "windows", "message"),
    [("pairs", "mean", "the longer half of a pair is cut"), ("tokens", "head_tail", "leaves out words")],
)
def test_what_cannot_be_read_so_is_refused(task, windows, message):
    tree = {"task": task, "labels": {"a": "a", "b": "b"}, "data": {"train": "x.jsonl"}, "training": {"windows": windows}}
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse(tree)


@pytest.mark.parametrize(("windows", "reach"), [("cut", 24), ("mean", 22 * REACH + 2)])
def test_what_one_text_costs_is_bounded(windows, reach):
    assert reach_of(24, windows, FRAME) == reach


@pytest.fixture(scope="module", params=["cut", "head_tail", "mean"])
def bundle(request, tmp_path_factory, tiny_cache):
    """Long texts of two labels that only their ends tell apart, and the bundle of a run over them."""
    folder = tmp_path_factory.mktemp(request.param)
    middle = " ".join(["and so it went on and on"] * 12)
    rows = [
        {"text": f"case {n} {middle} {'refund card money' if n % 2 else 'parcel lost courier'} {n}", "label": "ab"[n % 2]}
        for n in range(24)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tree = {
        "labels": {"a": "a parcel", "b": "money"},
        "data": {"train": str(folder / "rows.jsonl")},
        "learners": ["frozen"],
        "synthesis": {"drafts": 0},
        "training": {"max_tokens": MAX_TOKENS, "windows": request.param},
    }
    result = run(Task.of(RunConfig.parse(tree)), folder / "run", store=ModelStore(tiny_cache))
    return request.param, result, folder


def test_a_bundle_reads_as_it_was_trained_and_says_what_it_did_not_read(bundle):
    windows, result, folder = bundle
    model = refsynth.load(result.bundle)
    assert (model.manifest.last.windows, model.manifest.last.max_tokens) == (windows, MAX_TOKENS)
    assert {"cut": "reads the first", "head_tail": "the first and the last", "mean": "windows"}[windows] in (
        result.bundle / "README.md"
    ).read_text("utf-8")
    texts = [json.loads(line)["text"] for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    alone = [model.predict([text])[0] for text in texts]
    together = model.predict([*texts, SHORT])
    for one, other in zip(alone, together, strict=False):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert [one.truncated for one in together] == [windows != "mean"] * len(texts) + [False]
    note = "24 rows have more than 24 tokens"
    assert note in (folder / "run" / "report.md").read_text("utf-8")


def test_predict_and_evaluate_count_what_they_did_not_read(bundle):
    windows, result, folder = bundle
    done = CliRunner().invoke(app, ["predict", str(result.bundle), str(folder / "rows.jsonl")])
    assert done.exit_code == 0, done.output
    assert ("24 not read to the end" in done.stderr) == (windows != "mean")
    first = json.loads(done.stdout.splitlines()[0])
    assert first.get("truncated", False) == (windows != "mean")
    done = CliRunner().invoke(app, ["evaluate", str(result.bundle), str(folder / "rows.jsonl"), "--json"])
    assert json.loads(done.stdout)["truncated"] == (0 if windows == "mean" else 24)
    done = CliRunner().invoke(app, ["evaluate", str(result.bundle), str(folder / "rows.jsonl")])
    assert ("24 texts longer than the model reads" in done.stderr) == (windows != "mean")
