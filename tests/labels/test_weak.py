"""Rules: what applies to which text, the model on simulated rules with known accuracy, and files that are wrong."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.errors import ConfigError, InputError
from refsynth.core.files import read_json, read_jsonl
from refsynth.labels.consensus import Votes, majority
from refsynth.labels.rules import LabelRule, Rules, read_rules
from refsynth.labels.weak import USUAL, RuleVotes, describe_rules, mark, weigh_rules
from tests.support.commands import call


def simulate(*, n, labels, hits, misses, prior, seed=0):
    """Return votes of rules with one label each, which speak of a share of its texts (hits) and of the others (misses)."""
    rng = np.random.default_rng(seed)
    k, j = len(prior), len(labels)
    truth = rng.choice(k, n, p=prior)
    speaks = rng.random((n, j)) < np.where(truth[:, None] == labels, hits, misses)
    items, sources = np.nonzero(speaks)
    return Votes(items, sources, np.array(labels)[sources], n, j, k), truth


GOOD_AND_BAD = {
    "labels": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "hits": [0.6, 0.5, 0.5, 0.6, 0.5, 0.5, 0.6, 0.5, 0.5],
    "misses": [0.03, 0.05, 0.35, 0.03, 0.05, 0.35, 0.03, 0.05, 0.35],
}


def test_reliable_rules_count_for_more_than_unreliable_ones():
    votes, truth = simulate(n=3000, prior=[1 / 3] * 3, **GOOD_AND_BAD)
    weighed = weigh_rules(RuleVotes(votes, ("a", "b", "c")), {})
    covered = np.unique(votes.items)
    ours = (weighed.posterior[covered].argmax(1) == truth[covered]).mean()
    heads = (majority(votes)[covered].argmax(1) == truth[covered]).mean()
    assert ours > heads + 0.05
    real = np.array([(truth[votes.items[votes.sources == j]] == label).mean() for j, label in enumerate(GOOD_AND_BAD["labels"])])
    np.testing.assert_allclose(weighed.accuracy, real, atol=0.12)
    assert (np.argsort(weighed.accuracy)[:3] % 3 == 2).all()  # the three bad ones


def test_a_known_balance_helps_with_a_rare_label():
    votes, truth = simulate(n=4000, prior=[0.8, 0.1, 0.1], seed=1, **GOOD_AND_BAD)
    marked, covered = RuleVotes(votes, ("a", "b", "c")), np.unique(votes.items)
    even, told = weigh_rules(marked, {}), weigh_rules(marked, {"a": 8, "b": 1, "c": 1})
    right = [(one.posterior[covered].argmax(1) == truth[covered]).mean() for one in (even, told)]
    assert right[1] > right[0]


def test_a_lonely_rule_is_neither_supported_nor_contradicted():
    votes = Votes(np.arange(50), np.repeat([0, 1], 25), np.repeat([0, 1], 25), 1000, 2, 2)
    weighed = weigh_rules(RuleVotes(votes, ("a", "b")), {})
    np.testing.assert_allclose(weighed.accuracy, USUAL)
    np.testing.assert_allclose(weighed.posterior[:25, 0], USUAL, atol=0.01)
    np.testing.assert_allclose(weighed.posterior[50:], 0.5, atol=1e-6)  # of which no rule says anything


def test_most_votes_for_one_label_do_not_swallow_the_others():
    rng = np.random.default_rng(0)
    common = [(i, 0, 0) for i in range(900)]
    rare = [(i, 1 + rng.integers(2), 1) for i in range(850, 1000)]
    votes = Votes(*np.array(common + rare).T, 1000, 3, 2)
    weighed = weigh_rules(RuleVotes(votes, ("a", "b")), {})
    assert (weighed.posterior[900:].argmax(1) == 1).all()
    assert (weighed.posterior[:850].argmax(1) == 0).all()


@st.composite
def some_votes(draw):
    n, j, k = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    table = np.array(draw(st.lists(st.lists(st.integers(-1, k - 1), min_size=j, max_size=j), min_size=n, max_size=n)))
    items, sources = np.nonzero(table >= 0)
    return Votes(items, sources, table[items, sources], n, j, k)


@settings(max_examples=50)
@given(votes=some_votes(), seed=st.integers(0, 99))
def test_renaming_rules_and_labels_only_renames_the_result(votes, seed):
    rng = np.random.default_rng(seed)
    who, what = rng.permutation(votes.j), rng.permutation(votes.k)
    names = tuple("abcd"[: votes.k])
    balance = {name: 1.0 + number for number, name in enumerate(names)}
    renamed = votes._replace(sources=who[votes.sources], classes=what[votes.classes])
    after_names = tuple(names[place] for place in np.argsort(what))
    before, after = weigh_rules(RuleVotes(votes, names), balance), weigh_rules(RuleVotes(renamed, after_names), balance)
    np.testing.assert_allclose(after.posterior[:, what], before.posterior, atol=1e-4)
    np.testing.assert_allclose(after.accuracy[who], before.accuracy, atol=1e-4)
    np.testing.assert_allclose(before.posterior.sum(1), 1)


def rules_of(path, text, name="rules.yaml"):
    (path / name).write_text(text, "utf-8")
    return read_rules(path / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("My parcel is LATE again", ("late", None, None)),
        ("latest news of cracked screens", (None, "broken", None)),
        ("no refund, not  arrived", ("late", None, None)),
        ("快递还没到", (None, None, "late")),
        ("nothing", (None, None, None)),
    ],
)
def test_words_are_whole_and_patterns_are_found_anywhere(tmp_path, text, said):
    rules = rules_of(
        tmp_path,
        """
        rules:
          - {label: late, words: [late, "not arrived"]}
          - {label: broken, pattern: "CRACK(ed)?"}
          - {label: late, words: [没到]}
        """,
    )
    assert tuple(rule.judge(text) for rule in rules.rules) == said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: []", "rules"),
        ("rules: [{label: a}]", "either words or a pattern"),
        ("rules: [{label: a, words: [x], pattern: y}]", "either words or a pattern"),
        ("rules: [{label: a, pattern: '('}]", "not a regular expression"),
        ("rules: [{label: a, word: [x]}]", "unknown key 'rules.1.word'"),
        ("rules: [{label: a, words: [x]}]\nbalance: {b: 1}", "no rule has the label 'b'"),
        ("rules: [{label: a, words: [x]}, {label: b, words: [y]}]\nbalance: {b: 1}", "nothing for a"),
        ("- just a list", "the file"),
        ("rules: [{label: yes, words: [x]}]", r"^[^\n]*rules.1.label: .*valid string; as text yes, no, .*\n  expected rules: \["),
        ("rules: [", "not valid YAML"),
    ],
)
def test_rules_that_are_none_are_named(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        rules_of(tmp_path, text)


def test_numbers_are_names_of_labels(tmp_path):
    text = "rules: [{label: 1, words: [404]}, {label: '2', words: [x]}]\nbalance: {1: 0.7, 2: 0.3}"
    rules = rules_of(tmp_path, text)
    assert [rule.judge("error 404, x") for rule in rules.rules] == ["1", "2"]
    assert rules.balance == {"1": 0.7, "2": 0.3}


def test_functions_of_a_python_file_are_rules(tmp_path):
    code = "from os.path import join\n\ndef late(text):\n    return 'late'\n\ndef _helper(text):\n    pass\n"
    rules = rules_of(tmp_path, code, "rules.py")
    assert [rule.name for rule in rules.rules] == ["late"]
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        rules_of(tmp_path, "1 / 0", "wrong.py")
    with pytest.raises(ConfigError, match="has no functions"):
        rules_of(tmp_path, "x = 1", "empty.py")
    with pytest.raises(ConfigError, match="no such file"):
        read_rules(tmp_path / "absent.py")


def test_a_rule_that_fails_is_named_with_its_text():
    with pytest.raises(InputError, match="'bad' fails at text 1: KeyError"):
        mark(Rules((LabelRule("bad", {}.__getitem__),), {}), ["x"])
    with pytest.raises(InputError, match="returns 3 for text 1"):
        mark(Rules((LabelRule("bad", lambda text: 3),), {}), ["x"])
    with pytest.raises(InputError, match="1 different labels"):
        mark(Rules((LabelRule("one", lambda text: "a"),), {}), ["x"])


def test_coverage_overlap_conflict_and_measured_accuracy_are_counted():
    rules = Rules(
        tuple(LabelRule(word, lambda text, word=word: word[0] if word in text else None) for word in ("a1", "a2", "b1")), {}
    )
    marked = mark(rules, ["a1", "a1 a2", "a1 b1", "b1", ""])
    figures = describe_rules(rules, marked, weigh_rules(marked, {}), ["a", "b", None, "b", "a"])
    assert [tuple(round(value, 3) for value in one[2:5]) for one in figures] == [
        (0.6, 0.4, 0.2),
        (0.2, 0.2, 0.0),
        (0.4, 0.2, 0.2),
    ]
    assert [one.measured for one in figures] == [0.5, 0.0, 1.0]


def test_a_pool_and_rules_become_rows_to_train_on(monkeypatch, capsys, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - {label: late, words: [late, waiting]}\n  - {label: broken, words: [crack]}\n"
    )
    (tmp_path / "pool.txt").write_text("it is late\nI am waiting\na crack\nhello\n\n")
    arguments = ("label", "weak", tmp_path / "pool.txt", "--out", tmp_path / "train.jsonl", "--rules")
    code, out, err = call(monkeypatch, capsys, *arguments, tmp_path / "rules.yaml")
    assert code == 0 and "you named it" not in err
    assert "3 rows" in out and "1 row unreadable" in out and "50.0%" in out
    assert [row["label"] for row in read_jsonl(tmp_path / "train.jsonl")] == ["late", "late", "broken"]
    figures = read_json(tmp_path / "train.rules.json")
    assert [(one["name"], one["measured"]) for one in figures] == [("late 1", None), ("broken 2", None)]
    (tmp_path / "rules.py").write_text("def a(text):\n    return 'late' if 'late' in text else 'broken'\n")
    code, out, err = call(monkeypatch, capsys, *arguments, tmp_path / "rules.py", "--json", "--force")
    assert code == 0 and "because you named it" in err
    assert json.loads(out)["texts"] == 4


def test_a_pool_without_a_text_that_can_be_read_is_told(monkeypatch, capsys, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - {label: late, words: [late]}\n  - {label: broken, words: [crack]}\nbalance: {late: 0.5, broken: 0.5}\n"
    )
    (tmp_path / "pool.jsonl").write_text('{"message": "it is late"}\n')
    arguments = ("label", "weak", tmp_path / "pool.jsonl", "--rules", tmp_path / "rules.yaml", "--out", tmp_path / "train.jsonl")
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 2 and "none of 1 row can be read; row 1" in err and "--text" in err


def test_a_python_file_may_say_how_frequent_labels_are(tmp_path):
    late = "def late(text):\n    return 'late'\n"
    assert rules_of(tmp_path, f"balance = {{'late': 0.7, 'broken': 0.3}}\n{late}", "one.py").balance == {
        "late": 0.7,
        "broken": 0.3,
    }
    assert rules_of(tmp_path, late, "two.py").balance == {}
    for wrong in ("{'late': -1.0}", "[0.7, 0.3]", "{'late': 'often'}", "{True: 0.5}"):
        with pytest.raises(ConfigError, match="balance"):
            rules_of(tmp_path, f"balance = {wrong}\n{late}", "three.py")


def test_a_balance_without_a_label_that_rules_say_is_refused():
    votes = Votes(np.array([0, 1]), np.array([0, 0]), np.array([0, 1]), n=2, j=1, k=2)
    with pytest.raises(ConfigError, match="nothing for broken"):
        weigh_rules(RuleVotes(votes, ("broken", "late")), {"late": 0.7})
