"""Active learning: strategies against closed forms and brute force; labels asked for, filled in and added."""

import csv
import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from refsynth.core.errors import DataError, InputError
from refsynth.core.files import read_jsonl, write_jsonl
from refsynth.core.observe import Silent
from refsynth.core.sections import Columns
from refsynth.core.types import Example
from refsynth.data.text import normalize
from refsynth.labels.active import STRATEGIES, CandidatePool, centered, choose, entropy, kappa, least_confidence, margin, stable
from refsynth.labels.added import add_rows
from refsynth.labels.more import add_labels
from refsynth.labels.next import ask_next, stability
from refsynth.learning.rows import join_rows
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.pipeline.reopen import reopened
from tests.support.commands import call
from tests.support.runs import WORDS, make_task

SURE = ("uncertainty", "margin", "entropy")


def random_pool(n, k=3, d=4, m=2, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n + m, d))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return CandidatePool(rng.dirichlet(np.ones(k), n), features[:n], features[n:])


@pytest.mark.parametrize("name", STRATEGIES)
@given(n=st.integers(0, 30), wanted=st.integers(0, 12), copies=st.booleans(), m=st.integers(0, 3), seed=st.integers(0, 99))
def test_every_strategy_chooses_different_texts_and_the_same_again(name, n, wanted, copies, m, seed):
    pool = random_pool(n, m=m, seed=seed)
    if copies and n:
        pool = CandidatePool(*(np.repeat(part[:1], len(part), axis=0) for part in pool[:3]))
    pool = pool._replace(several=seed % 2 == 1)
    chosen = choose(name, pool, wanted, seed=seed)
    assert len(chosen.places) == len(chosen.scores) == min(n, wanted) == len(set(chosen.places.tolist()))
    assert np.isfinite(chosen.scores).all()
    np.testing.assert_array_equal(chosen.places, choose(name, pool, wanted, seed=seed).places)


def of_sets(probabilities):
    return random_pool(len(probabilities))._replace(probabilities=np.array(probabilities), several=True)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_doubt_about_sets_is_the_closed_form(rows):
    pool = of_sets(rows)
    surest = [np.prod([max(p, 1 - p) for p in row]) for row in rows]
    np.testing.assert_allclose(least_confidence(pool), 1 - np.array(surest), atol=1e-9)
    np.testing.assert_allclose(margin(pool), [1 - min(abs(p - (1 - p)) for p in row) for row in rows], atol=1e-9)
    bits = [[-sum(q * np.log2(q) for q in (p, 1 - p) if q) for p in row] for row in rows]
    np.testing.assert_allclose(entropy(pool), np.mean(bits, 1), atol=1e-9)


def test_a_label_is_in_doubt_near_its_own_threshold():
    """0.2 is nearer to a threshold of 0.25 than 0.5 is; the place of 0.5 is where a label begins to be said."""
    cuts = np.array([0.25, 0.5])
    moved = centered(np.array([[0.25, 0.5], [0.2, 0.9], [0.5, 0.9], [0.0, 1.0]]), cuts)
    np.testing.assert_allclose(moved[0], [0.5, 0.5])
    np.testing.assert_allclose(moved[3], [0.0, 1.0])
    assert ((moved >= 0.5) == (np.array([[0.25, 0.5], [0.2, 0.9], [0.5, 0.9], [0.0, 1.0]]) >= cuts)).all()
    assert list(choose("margin", of_sets(moved), 2, seed=0).places) == [0, 1]


@given(p=st.floats(0.5, 1))
def test_for_two_labels_the_three_measures_of_doubt_agree(p):
    pool = random_pool(20, k=2)._replace(probabilities=np.array([[p, 1 - p], [1.0, 0.0], [0.0, 1.0]]))
    for name in SURE:
        scores = choose(name, pool, 3, seed=0).scores
        assert scores[0] == pytest.approx(STRATEGIES_AT[name](p), abs=1e-9)
        assert scores[-1] == pytest.approx(0.0)


STRATEGIES_AT = {
    "uncertainty": lambda p: 1 - p,
    "margin": lambda p: 1 - (2 * p - 1),
    "entropy": lambda p: -sum(q * np.log2(q) for q in (p, 1 - p) if q),
}


def test_doubt_is_told_apart_for_three_labels():
    rows = np.array([[0.4, 0.3, 0.3], [0.5, 0.49, 0.01], [0.38, 0.36, 0.26]])
    first = {name: int(choose(name, random_pool(3)._replace(probabilities=rows), 1, seed=0).places[0]) for name in SURE}
    assert first == {"uncertainty": 2, "margin": 1, "entropy": 0}


@pytest.mark.parametrize("seed", range(8))
def test_coreset_covers_at_most_twice_as_far_as_the_best_cover(seed):
    pool, n = random_pool(12, d=3, m=1, seed=seed), 3
    apart = np.linalg.norm(pool.features[:, None] - np.concatenate([pool.features, pool.labeled])[None], axis=2)

    def radius(places):
        return apart[:, [*places, 12]].min(1).max()

    best = min(radius(places) for places in combinations(range(12), n))
    chosen = choose("coreset", pool, n, seed=0)
    assert radius(chosen.places) <= 2 * best + 1e-9
    assert chosen.scores[0] == pytest.approx(apart[:, 12].max())
    assert (np.diff(chosen.scores) <= 1e-9).all()


def test_badge_measures_the_gradients_of_a_linear_head():
    pool = random_pool(9, k=4, d=5, seed=3)
    residual = pool.probabilities - np.eye(4)[pool.probabilities.argmax(1)]
    gradients = (residual[:, :, None] * pool.features[:, None]).reshape(9, -1)
    chosen = choose("badge", pool, 5, seed=1)
    assert chosen.places[0] == np.linalg.norm(gradients, axis=1).argmax()
    for number in range(1, 5):
        before = gradients[chosen.places[:number]]
        expected = np.linalg.norm(before - gradients[chosen.places[number]], axis=1).min()
        assert chosen.scores[number] == pytest.approx(expected)


def test_badge_asks_for_each_kind_of_doubt_and_the_hybrid_for_each_group():
    corners = np.eye(4)
    features = np.repeat(corners, 10, axis=0) + np.random.default_rng(0).normal(0, 1e-3, (40, 4))
    pool = CandidatePool(np.tile([0.5, 0.5], (40, 1)), features, features[:0])
    for name in ("badge", "hybrid", "coreset"):
        assert len({place // 10 for place in choose(name, pool, 4, seed=0).places}) == 4, name
    sure = pool.probabilities.copy()
    sure[:10] = [1.0, 0.0]  # what is certain is not asked for, however different it is; to BADGE all of it is one group
    some = pool._replace(probabilities=sure)
    assert (choose("hybrid", some, 3, seed=0).places >= 10).all()
    assert (choose("badge", some, 4, seed=0).places < 10).sum() <= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs):
    before, after = np.array(pairs).T
    if len({*before.tolist(), *after.tolist()}) == 1:
        assert kappa(before, after) == 1
    else:
        assert kappa(before, after) == pytest.approx(cohen_kappa_score(before, after))


def test_labels_stop_paying_when_the_answers_stop_changing():
    assert not stable([1.0, 1.0])
    assert not stable([1.0, 1.0, 0.9, 1.0])
    assert stable([0.5, 0.99, 0.995, 1.0])
    rounds = [{str(i): "a" if i < split else "b" for i in range(100)} for split in (40, 50, 50, 50, 50)]
    told = stability(rounds)
    assert (told.stop, told.n, told.changed, len(told.kappas)) == (True, 100, 0.0, 4)
    assert stability(rounds[:2]).changed == pytest.approx(0.1)
    assert stability(rounds[:1]) is None
    assert stability([rounds[0], {"other": "a"}]) is None


def examples(*pairs):
    return [Example(f"row-{number}", text, label) for number, (text, label) in enumerate(pairs, 1)]


texts = st.lists(st.tuples(st.sampled_from(["x", "X", "y y", "z"]), st.sampled_from("ab")), max_size=6)


@given(first=texts, second=texts)
def test_rows_are_added_once_and_never_against_what_is_known(tmp_path_factory, first, second):
    file = tmp_path_factory.mktemp("more") / "more.jsonl"

    def known():
        rows = read_jsonl(file) if file.exists() else ()
        return [Example("row-1", row["text"], row["label"]) for row in rows]

    for rows in (first, second):
        done = add_rows(file, examples(*rows), known)
        assert done.added + done.known + len(done.conflicts) == len(rows)
    there = [normalize(row.text) for row in known()]
    assert set(there) == {normalize(text) for text, _ in first + second} and len(set(there)) == len(there)
    before = file.read_bytes() if file.exists() else b""
    assert add_rows(file, examples(*first, *second), known).added == 0
    assert (file.read_bytes() if file.exists() else b"") == before


def test_a_line_without_an_end_is_not_run_into_the_next(tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text('{"text": "one", "label": "a"}')
    add_rows(file, examples(("two", "b")), lambda: examples(("one", "a")))
    assert [row["text"] for row in read_jsonl(file)] == ["one", "two"]


def test_people_who_add_at_once_lose_nothing(tmp_path):
    file = tmp_path / "more.jsonl"

    def known():
        return [Example("row-1", row["text"], row["label"]) for row in (read_jsonl(file) if file.exists() else ())]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: add_rows(file, examples((f"text {i // 2}", "a")), known), range(32)))
    assert sorted(row["text"] for row in read_jsonl(file)) == sorted(f"text {i}" for i in range(16))


def test_texts_with_two_labels_in_two_files_are_left_out():
    first, later = examples(("one", "a"), ("two", "b")), examples(("ONE", "b"), ("two", "b"), ("three", "a"))
    kept, disputed = join_rows([first, later])
    assert ([row.text for row in kept], disputed) == (["two", "three"], 1)


def write_pool(path, n, seed=7):
    rng = np.random.default_rng(seed)
    words = [word for group in WORDS.values() for word in group]
    rows = [{"text": f"pool {i} " + " ".join(rng.choice(words, 4)), "id": f"p{i}"} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_cache):
    where = tmp_path_factory.mktemp("active")
    task = make_task(where, synthesis={"drafts": 0}, learners=["tfidf"])
    run(task, where / "run", store=ModelStore(tiny_cache))
    return where


def ask(where, tiny_cache, pool, **options):
    with reopened(where / "run", (), Silent(), store=ModelStore(tiny_cache)) as begun:
        job = begun.job
        return ask_next(job, pool, **({"n": 5, "strategy": "margin"} | options))


def next_of(out):
    """Return the command that comes next, as a shell reads it."""
    return shlex.split(out.splitlines()[-1].removeprefix("next: refsynth "))


def test_labels_go_round_from_the_pool_to_the_next_run(monkeypatch, capsys, tmp_path, tiny_cache):
    task = make_task(tmp_path, synthesis={"drafts": 0}, learners=["tfidf"])
    write_pool(tmp_path / "pool.jsonl", 60)
    tree = task.config.model_dump(mode="json")
    tree["data"]["more"] = "more.jsonl"
    (tmp_path / "task.yaml").write_text(json.dumps(tree), "utf-8")
    again = ("run", tmp_path / "task.yaml", "--out", tmp_path / "my run")
    code, out, err = call(monkeypatch, capsys, *again, cache=tiny_cache)
    assert code == 0 and "not there yet" in err
    assert next_of(out) == ["predict", str(tmp_path / "my run"), "new.csv", "--out", "scored.csv"]
    asking = ("label", "next", tmp_path / "pool.jsonl", "--run", tmp_path / "my run", "-n", "6", "--out")
    code, out, err = call(monkeypatch, capsys, *asking, tmp_path / "ask me.csv", cache=tiny_cache)
    assert code == 0, err
    assert "6 of 60 texts" in err
    assert next_of(out) == ["label", "add", str(tmp_path / "ask me.csv"), "--run", str(tmp_path / "my run")]
    with (tmp_path / "ask me.csv").open(encoding="utf-8-sig", newline="") as stream:
        forms = list(csv.DictReader(stream))
    assert all(row["label"] == "" and row["reason"].startswith("hybrid") and row["id"].startswith("p") for row in forms)
    for number, row in enumerate(forms[:5]):
        row["label"] = ("late", "broken")[number % 2]
    with (tmp_path / "ask me.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, forms[0])
        writer.writeheader()
        writer.writerows(forms)
    adding = ("label", "add", tmp_path / "ask me.csv", "--run", tmp_path / "my run")
    code, out, err = call(monkeypatch, capsys, *adding, "--json", cache=tiny_cache)
    told = json.loads(out)
    assert (code, told["added"], told["known"], told["skipped"], told["named"]) == (0, 5, 0, 1, True)
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(monkeypatch, capsys, *adding, cache=tiny_cache)
    assert "0 rows added to more.jsonl; 5" in out
    assert next_of(out) == ["run", "task.yaml", "--out", str(tmp_path / "my run")]
    assert "0 rows added" in out and "5 were there already" in out and "dropped: no label" not in out
    assert "1 text left without a label: label next does not ask again" in out
    code, _, err = call(monkeypatch, capsys, *again, cache=tiny_cache)
    assert code == 0 and "17 rows" in err, err
    rows = list(read_jsonl(tmp_path / "my run" / "steps" / "rows" / "examples.jsonl"))
    assert [row["id"] for row in rows[-5:]] == [f"more-{number}" for number in range(1, 6)]
    code, _, err = call(monkeypatch, capsys, *asking, tmp_path / "second.csv", cache=tiny_cache)
    assert "6 of 54 texts (5 are labeled already, 1 left without a label before)" in err and "kappa" in err
    code, _, err = call(monkeypatch, capsys, *asking, tmp_path / "third.csv", "--again", cache=tiny_cache)
    assert "6 of 55 texts" in err
    assert "pool 1 " not in (tmp_path / "my run" / "label" / "rounds.jsonl").read_text()


def test_only_what_an_embedding_is_needed_for_is_embedded(finished, tiny_cache, monkeypatch, tmp_path):
    write_pool(tmp_path / "pool.jsonl", 40)
    asked = ask(finished, tiny_cache, tmp_path / "pool.jsonl", strategy="badge", out=tmp_path / "one.jsonl")
    assert (asked.rows, asked.pool, asked.labeled) == (5, 40, 0)
    assert asked.stability is None
    rows = list(read_jsonl(tmp_path / "one.jsonl"))
    assert len({row["id"] for row in rows}) == 5
    monkeypatch.setattr("refsynth.models.network.TransformerEncoder.encode", None)
    assert ask(finished, tiny_cache, tmp_path / "pool.jsonl", out=tmp_path / "two.jsonl").rows == 5
    again = ask(finished, tiny_cache, tmp_path / "pool.jsonl", out=tmp_path / "three.jsonl")
    assert again.file.read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_what_was_labeled_since_the_run_is_not_asked_again(tiny_cache, tmp_path):
    task = make_task(tmp_path, synthesis={"drafts": 0}, learners=["tfidf"])
    run(task, tmp_path / "run", store=ModelStore(tiny_cache))
    write_pool(tmp_path / "pool.jsonl", 40)
    asked = ask(tmp_path, tiny_cache, tmp_path / "pool.jsonl", out=tmp_path / "one.jsonl")
    forms = list(read_jsonl(asked.file))
    write_jsonl(asked.file, [row | {"label": "late"} for row in forms])
    assert add_labels(tmp_path / "run", asked.file).added.added == 5
    again = ask(tmp_path, tiny_cache, tmp_path / "pool.jsonl", out=tmp_path / "two.jsonl")
    assert (again.pool, again.labeled) == (35, 5)
    assert {row["text"] for row in forms}.isdisjoint(row["text"] for row in read_jsonl(again.file))


def test_a_pool_may_be_plain_text_with_copies_blank_lines_and_known_texts(finished, tiny_cache, tmp_path):
    known = next(iter(read_jsonl(finished / "train.jsonl")))["text"]
    (tmp_path / "pool.txt").write_text(f"fresh one\n\nFRESH  one\nfresh two\n{known}\n", "utf-8")
    asked = ask(finished, tiny_cache, tmp_path / "pool.txt", n=20)
    assert (asked.rows, asked.pool, asked.labeled, asked.unreadable) == (2, 2, 1, 1)
    assert asked.file.parent == finished / "run" / "label"
    (tmp_path / "old.txt").write_text(f"{known}\n", "utf-8")
    with pytest.raises(DataError, match="no text without a label, of 1 row: 1 with a label\n"):
        ask(finished, tiny_cache, tmp_path / "old.txt")
    (tmp_path / "old.txt").write_text(f"{known}\n\n", "utf-8")
    with pytest.raises(DataError, match="no text without a label, of 2 rows: 1 with a label, 1 unreadable"):
        ask(finished, tiny_cache, tmp_path / "old.txt")
    write_jsonl(tmp_path / "other.jsonl", [{"message": "one"}, {"message": "two"}])
    with pytest.raises(DataError, match=r"none of 2 rows can be read; row 1: no key 'text'; keys there: message\n.*--text"):
        ask(finished, tiny_cache, tmp_path / "other.jsonl")


def test_a_text_is_asked_for_once_with_how_often_it_occurs(finished, tiny_cache, tmp_path):
    texts = ["late again", "other one", "Late  again", "late again", "a third", "other one"]
    write_jsonl(tmp_path / "pool.jsonl", [{"text": text} for text in texts])
    asked = ask(finished, tiny_cache, tmp_path / "pool.jsonl", n=20, out=tmp_path / "ask.jsonl")
    assert (asked.rows, asked.pool, asked.labeled, asked.repeated) == (3, 3, 0, 3)
    times = {row["text"]: row["times"] for row in read_jsonl(asked.file)}
    assert times == {"late again": 3, "other one": 2, "a third": 1}
    write_jsonl(tmp_path / "single.jsonl", [{"text": "a third"}])
    asked = ask(finished, tiny_cache, tmp_path / "single.jsonl", n=20, out=tmp_path / "two.jsonl")
    assert asked.repeated == 0 and all("times" not in row for row in read_jsonl(asked.file))


@pytest.mark.parametrize(("named", "first"), [("Ticket", ["Ticket", "text", "label"]), (None, ["text", "label"])])
def test_added_rows_keep_what_the_user_calls_them(tmp_path, named, first):
    rows = [Example("row-1", "one", "a"), Example("row-2", "two", "b")]
    add_rows(tmp_path / "more.jsonl", rows, lambda: [], columns=Columns(id=named), names={"row-1": "T-1", "row-2": ""})
    written = list(read_jsonl(tmp_path / "more.jsonl"))
    assert list(written[0]) == first and written[0].get("Ticket") == (named and "T-1")
    assert list(written[1]) == ["text", "label"]


def test_answers_that_cannot_be_taken_are_named(finished, tmp_path):
    known = next(iter(read_jsonl(finished / "train.jsonl")))
    other = next(label for label in WORDS if label != known["label"])
    file = tmp_path / "answers.jsonl"
    file.write_text(
        json.dumps({"text": known["text"], "label": other}) + "\n" + json.dumps({"text": "new", "label": "late"}) + "\n"
    )
    taken = add_labels(finished / "run", file)
    assert taken.named is False and taken.file == finished / "train.more.jsonl"
    assert taken.listed is None
    assert (taken.added.added, taken.added.conflicts) == (1, (("row-1", other, known["label"]),))
    taken.file.unlink()
    file.write_text(json.dumps({"text": "new", "label": "latte"}) + "\n")
    with pytest.raises(DataError, match="did you mean 'late'"):
        add_labels(finished / "run", file)
    assert not taken.file.exists()
    taken = add_labels(finished / "run", file, skip_bad=True)
    assert (taken.added.added, taken.listed) == (0, finished / "run" / "label" / "skipped.csv")
    assert taken.listed.read_text("utf-8") == (
        "row,reason,detail,file,sheet_row,own_id\n1,unknown label,label 'latte' is not in task.yaml,answers.jsonl,1,\n"
    )


def test_an_unfinished_run_has_nothing_to_ask_with(tmp_path, tiny_cache):
    with pytest.raises(InputError, match="not a run folder"), reopened(tmp_path, (), Silent(), store=ModelStore(tiny_cache)):
        pass
    with pytest.raises(InputError, match="not a run folder"):
        add_labels(tmp_path, tmp_path / "x.csv")
