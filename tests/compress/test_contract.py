"""The search ships the smallest form that meets the contract, else the nearest, and measures no quality that cannot matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.compress.contract import Contract, ModelVariant, excess, search
from refsynth.compress.shrink import as_trained
from refsynth.core.learners import LEARNERS, LearnerSpec
from refsynth.learning.candidates import Candidate
from tests.support.registered import register

FORMS = (ModelVariant("full", 23.0, 3.0), ModelVariant("half", 18.0, 1.6), ModelVariant("words", 2.0, 0.2))
KEPT = {"full": 1.0, "half": 0.985, "words": 0.8}


@pytest.mark.parametrize(
    ("contract", "shipped", "met", "asked"),
    [
        (Contract(), "full", True, []),
        (Contract(size_mb=20), "half", True, []),
        (Contract(size_mb=5), "words", True, []),
        (Contract(size_mb=1), "words", False, []),
        (Contract(keep=0.7), "words", True, ["words"]),
        (Contract(keep=0.98), "half", True, ["words", "half"]),
        (Contract(keep=0.99), "full", True, ["words", "half", "full"]),
        (Contract(p50_ms=2, size_mb=30, keep=0.98), "half", True, ["words", "half"]),
        # Nobody can: `half` misses by 0.99 / 0.985, `full` by 3 / 2 whatever it keeps, so it is not measured.
        (Contract(p50_ms=2, keep=0.99), "half", False, ["words", "half"]),
        # `words` misses by 0.95 / 0.8 = 1.19, the others by 18 / 15 = 1.2 and more.
        (Contract(size_mb=15, keep=0.95), "words", False, ["words"]),
        (Contract(size_mb=16, keep=0.95), "half", False, ["words", "half"]),
    ],
)
def test_what_ships(contract: Contract, shipped: str, met: bool, asked: list[str]) -> None:
    seen: list[str] = []

    def quality(name: str) -> float:
        seen.append(name)
        return KEPT[name]

    outcome = search(contract, FORMS, quality)
    assert (outcome.shipped.name, outcome.met, seen) == (shipped, met, asked)
    assert [form.name for form in outcome.forms] == [form.name for form in FORMS]
    assert {form.name for form in outcome.forms if form.kept is not None} == set(asked)


def test_where_quality_cannot_be_told_the_least_is_cut() -> None:
    assert search(Contract(size_mb=20, keep=0.98), FORMS, None).shipped.name == "half"


positive = st.floats(0.1, 100)
forms_of = st.lists(st.tuples(positive, positive, st.floats(0, 1.1)), min_size=1, max_size=6)
bound = st.none() | positive


@given(forms_of, bound, bound, st.none() | st.floats(0.1, 1))
def test_the_search_finds_what_measuring_everything_would(
    drawn: list[tuple[float, float, float]], p50: float | None, size: float | None, keep: float | None
) -> None:
    forms = [ModelVariant(str(number), mb, ms) for number, (mb, ms, _) in enumerate(drawn)]
    contract = Contract(p50, size, keep)
    all_known = [form._replace(kept=drawn[number][2]) for number, form in enumerate(forms)]
    outcome = search(contract, forms, lambda name: drawn[int(name)][2])
    least = min(excess(contract, form) for form in all_known)
    found = excess(contract, all_known[int(outcome.shipped.name)])
    assert outcome.met == (least <= 1)
    if not outcome.met:
        assert found == least
    elif keep is not None:
        assert outcome.shipped.size_mb == min(form.size_mb for form in all_known if excess(contract, form) <= 1)


def test_in_words() -> None:
    assert str(Contract(p50_ms=2, keep=0.98)) == "p50 at most 2 ms, keeps at least 98.0%"
    assert str(FORMS[0]._replace(kept=0.991)) == "full: p50 3.00 ms, 23.0 MB, keeps 99.10%"


def test_a_small_learner_that_is_registered_later_competes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    register(
        monkeypatch,
        LEARNERS,
        *(LearnerSpec(name, name, "nowhere:make", "nothing", small=name == "new") for name in ("new", "large")),
    )
    shipped = Candidate("frozen", True)
    assert as_trained("new", shipped) == Candidate("new", True) and as_trained("tfidf", shipped) == Candidate("tfidf", True)
    assert as_trained("full", shipped) == shipped
    assert as_trained("large", shipped) is None and as_trained("half", shipped) is None
