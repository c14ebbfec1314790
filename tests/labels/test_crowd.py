"""Several annotators: the model against a plain EM in probabilities, simulated crowds with known errors, and its symmetries."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.errors import DataError
from refsynth.core.files import read_json, read_jsonl
from refsynth.labels import consensus
from refsynth.labels.consensus import Votes, dawid_skene, join, majority
from refsynth.labels.crowd import agree, describe, read_crowd
from tests.support.commands import call


def simulate(*, n, confusion, share=1.0, prior=None, seed=0):
    """Return votes of annotators with known confusion [J, K, K], each on a share of n items, and the true classes."""
    rng = np.random.default_rng(seed)
    j, k = confusion.shape[:2]
    truth = rng.choice(k, n, p=prior)
    items, sources = np.nonzero(rng.random((n, j)) < share)
    classes = np.array([rng.choice(k, p=confusion[source, truth[item]]) for item, source in zip(items, sources, strict=True)])
    return Votes(items, sources, classes, n, j, k), truth


def diagonal(accuracies, k):
    right = np.array(accuracies)[:, None, None]
    return right * np.eye(k) + (1 - right) / (k - 1) * (1 - np.eye(k))


def plain_em(votes, rounds):
    """Dawid and Skene's formulas (2.3) to (2.5), written out with loops and without logarithms, and our imagined votes."""
    posterior = [[0.0] * votes.k for _ in range(votes.n)]
    triples = list(zip(votes.items, votes.sources, votes.classes, strict=True))
    for item, _, said in triples:
        posterior[item][said] += 1
    posterior = [[value / sum(row) if sum(row) else 1 / votes.k for value in row] for row in posterior]
    for _ in range(rounds):
        prior = [(sum(row[k] for row in posterior) + 1) / (votes.n + votes.k) for k in range(votes.k)]
        counts = [
            [[1.0 if k == said else 0.5 / (votes.k - 1) for said in range(votes.k)] for k in range(votes.k)]
            for _ in range(votes.j)
        ]
        for item, source, said in triples:
            for k in range(votes.k):
                counts[source][k][said] += posterior[item][k]
        posterior = [list(prior) for _ in range(votes.n)]
        for item, source, said in triples:
            for k in range(votes.k):
                posterior[item][k] *= counts[source][k][said] / sum(counts[source][k])
        posterior = [[value / sum(row) for value in row] for row in posterior]
    return np.array(posterior)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_em_of_the_paper(seed, monkeypatch):
    votes, _ = simulate(n=25, confusion=diagonal([0.9, 0.6, 0.7], 3), share=0.8, seed=seed)
    monkeypatch.setattr(consensus, "ROUNDS", 7)
    monkeypatch.setattr(consensus, "TOLERANCE", 0.0)
    np.testing.assert_allclose(dawid_skene(votes).posterior, plain_em(votes, 7), atol=1e-12)


def test_known_confusion_is_recovered_within_three_points():
    rng = np.random.default_rng(1)
    confusion = rng.dirichlet(np.ones(3), (6, 3)) * 0.4 + 0.6 * np.eye(3)
    prior = np.array([0.5, 0.3, 0.2])
    votes, truth = simulate(n=4000, confusion=confusion, prior=prior)
    fitted = dawid_skene(votes)
    assert np.abs(fitted.confusion - confusion).mean() < 0.015
    assert np.abs(fitted.confusion - confusion).max() < 0.06
    assert np.abs(fitted.prior - prior).max() < 0.03
    np.testing.assert_allclose(fitted.accuracy, np.einsum("k,jkk->j", prior, confusion), atol=0.03)
    assert (fitted.posterior.argmax(1) == truth).mean() > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_it_beats_the_majority_where_annotators_differ(seed):
    votes, truth = simulate(n=400, confusion=diagonal([0.95, 0.95, 0.45, 0.45, 0.45, 0.45, 0.45], 3), seed=seed)
    ours = (dawid_skene(votes).posterior.argmax(1) == truth).mean()
    heads = (majority(votes).argmax(1) == truth).mean()
    assert ours > heads + 0.05


def test_it_matches_the_majority_where_annotators_are_alike():
    votes, truth = simulate(n=400, confusion=diagonal([0.75] * 5, 3), seed=4)
    ours = (dawid_skene(votes).posterior.argmax(1) == truth).mean()
    assert ours >= (majority(votes).argmax(1) == truth).mean() - 0.02


def test_probabilities_are_calibrated():
    votes, truth = simulate(n=4000, confusion=diagonal([0.8, 0.7, 0.6], 2), seed=2)
    posterior = dawid_skene(votes).posterior
    assert posterior.max(1).mean() == pytest.approx((posterior.argmax(1) == truth).mean(), abs=0.03)


@st.composite
def some_votes(draw):
    n, j, k = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    triple = st.tuples(st.integers(0, n - 1), st.integers(0, j - 1), st.integers(0, k - 1))
    triples = draw(st.lists(triple, min_size=1, max_size=30))
    items, sources, classes = np.array(triples).T
    return Votes(items, sources, classes, n, j, k)


@settings(max_examples=50)
@given(votes=some_votes(), seed=st.integers(0, 99))
def test_whoever_and_whatever_is_renamed_only_renames_the_result(votes, seed):
    rng = np.random.default_rng(seed)
    who, what, which = (rng.permutation(size) for size in (votes.j, votes.k, votes.n))
    order = rng.permutation(len(votes.items))
    renamed = Votes(which[votes.items][order], who[votes.sources][order], what[votes.classes][order], *votes[3:])
    before, after = dawid_skene(votes), dawid_skene(renamed)
    np.testing.assert_allclose(after.posterior[np.ix_(which, what)], before.posterior, atol=1e-4)
    np.testing.assert_allclose(after.confusion[np.ix_(who, what, what)], before.confusion, atol=1e-4)
    np.testing.assert_allclose(majority(renamed)[np.ix_(which, what)], majority(votes), atol=1e-12)


@given(votes=some_votes())
def test_everything_is_a_distribution(votes):
    fitted = dawid_skene(votes)
    for table in fitted:
        assert (table >= 0).all()
        np.testing.assert_allclose(table.sum(-1), 1)


def write_votes(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_file_of_votes_becomes_rows_to_train_on(monkeypatch, capsys, tmp_path):
    votes, truth = simulate(n=60, confusion=diagonal([0.95, 0.9, 0.35], 2), seed=0)
    names = ("late", "broken")
    rows = [
        {"message": f"text {item}", "who": f"person {source}", "intent": names[said]}
        for item, source, said in zip(*votes[:3], strict=True)
    ]
    rows += [{"message": "", "who": "person 0", "intent": "late"}, {"message": "text 1", "who": "person 0", "intent": None}]
    file = write_votes(tmp_path / "votes.jsonl", rows)
    arguments = (
        "label",
        "crowd",
        file,
        "--out",
        tmp_path / "train.jsonl",
        "--text",
        "message",
        "--annotator",
        "who",
        "--label",
        "intent",
    )
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert "1 row without a text" in out and "1 row without a label" in out and "person 2" in out
    made = list(read_jsonl(tmp_path / "train.jsonl"))
    right = sum(names[truth[int(row["text"].split()[1])]] == row["label"] for row in made)
    assert right > 0.9 * len(made) > 50
    assert all(row["confidence"] > 0.5 and row["votes"] == 3 for row in made)
    people = {line["annotator"]: line for line in read_json(tmp_path / "train.annotators.json")}
    assert people["person 0"]["accuracy"] > 0.85 > 0.6 > people["person 2"]["accuracy"]
    assert people["person 1"]["confusion"]["late"]["late"] > 0.8
    before = (tmp_path / "train.jsonl").read_bytes()
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 2 and "exists already" in err and (tmp_path / "train.jsonl").read_bytes() == before
    code, _, err = call(monkeypatch, capsys, *arguments[:4], file.with_suffix(".csv"), *arguments[5:], "--force")
    assert code == 2 and "ends in .jsonl" in err
    (tmp_path / "busy.annotators.json").mkdir()
    code, _, err = call(monkeypatch, capsys, *arguments[:4], tmp_path / "busy.jsonl", *arguments[5:])
    assert code == 2 and "busy.annotators.json: cannot be written" in err
    code, out, _ = call(monkeypatch, capsys, *arguments, "--method", "majority", "--json", "--force")
    assert (code, json.loads(out)["skipped"]) == (0, {"without a text": 1, "without a label": 1})


def test_equal_texts_are_one_and_ties_are_left_out(tmp_path):
    rows = [("One", "a", "x"), ("one ", "b", "x"), ("two", "a", "x"), ("two", "b", "y")]
    file = write_votes(tmp_path / "v.jsonl", [dict(zip(("text", "annotator", "label"), row, strict=True)) for row in rows])
    crowd = read_crowd(file)
    assert crowd.texts == ("One", "two")
    shares = agree(crowd, method="majority").posterior
    joined = join(crowd.texts, crowd.labels, crowd.votes, shares, least=0.5)
    assert [(row.text, row.label, row.confidence, row.votes) for row in joined] == [("One", "x", 1.0, 2)]
    lines = describe(crowd, agree(crowd, method="majority"))
    assert [line["annotator"] for line in lines] == ["a", "b"]


def test_an_annotator_has_one_vote_for_a_text_and_none_where_they_contradict_themselves(tmp_path):
    once = [("one", "a", "x"), ("one", "b", "y"), ("one", "c", "x"), ("two", "b", "y"), ("two", "c", "y")]
    rows = [*once, ("One ", "b", "y"), ("one", "b", "y"), ("two", "a", "x"), ("two", "a", "y"), ("two", "a", "x")]
    file = write_votes(tmp_path / "v.jsonl", [dict(zip(("text", "annotator", "label"), row, strict=True)) for row in rows])
    crowd = read_crowd(file)
    assert [list(part) for part in crowd.votes[:3]] == [[0, 0, 0, 1, 1], [0, 1, 2, 1, 2], [0, 1, 0, 1, 1]]
    assert crowd.skipped == {"that repeat a vote": 2, "that contradict another vote of the same annotator": 3}
    joined = join(crowd.texts, crowd.labels, crowd.votes, agree(crowd, method="majority").posterior, least=0.5)
    assert [(row.text, row.label, row.votes) for row in joined] == [("one", "x", 3), ("two", "y", 2)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,annotator,label\nx,a,l\nx,a,m\ny,b,l\n", "votes for 1 label .2 that contradict another vote"),
        ("text,who,label\nx,a,l\n", "no column 'annotator'"),
        ("text,annotator,label\nx,a,l\ny,b,l\n", "votes for 1 label"),
        ("text,annotator,label\n", "votes for 0 labels"),
    ],
)
def test_a_file_that_holds_no_votes_is_refused(tmp_path, content, told):
    (tmp_path / "v.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        read_crowd(tmp_path / "v.csv")
