import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.errors import InputError
from refsynth.core.protocols import Predictor
from refsynth.core.scorers import SCORERS
from refsynth.core.types import Draft, Example, Prompt, Provenance, kept
from refsynth.evaluation.leakage import leaked
from refsynth.synthesis.selection import filter as quality
from refsynth.synthesis.selection.diversity import coverage, diversity, self_bleu
from refsynth.synthesis.selection.filter import screen
from refsynth.synthesis.selection.reference_classifier import ReferenceClassifier, Shortlist, calibrated
from refsynth.synthesis.selection.sanity import LONG, REPETITIVE, SHORT, UNMARKED, form_check
from refsynth.synthesis.selection.scorers import LikelihoodRatioScorer, agreement_of

AGREEMENT, INFLUENCE, LIKELIHOOD = SCORERS["agreement"], SCORERS["influence"], SCORERS["likelihood"]

SEEDS = [
    Example("row-1", "my parcel has not arrived and nobody answers the phone", "late"),
    Example("row-2", "where is the book that I ordered a week ago", "late"),
    Example("row-3", "the lamp came with a crack in its shade", "broken"),
    Example("row-4", "one of the two mugs was in pieces when I opened the box", "broken"),
]


def draft(number, text, label="late"):
    return Example(f"draft-{number}", text, label, Provenance("p", (), 0, "echo"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("still no sign of the jacket you promised for Monday", None),
        ("late", SHORT),
        ("the order is late " * 40, LONG),
        ("late late late late late late late late late", REPETITIVE),
        ("My parcel has not arrived, and nobody answers the phone!", quality.COPY),
    ],
)
def test_each_fault_of_form_has_its_reason(text, reason):
    assert [d.dropped for d in screen([draft(0, text)], SEEDS, longest=60)] == [reason]


def test_of_duplicates_the_first_stays_and_texts_of_two_labels_go():
    texts = [
        "the courier never rang the bell at my door",
        "The courier never rang the bell at my door",
        "the courier never rang a bell at my door",
    ]
    drafts = [draft(i, text) for i, text in enumerate(texts)]
    drafts += [draft(3, "it is all a complete mess over here", "late"), draft(4, "it is all a complete mess over here", "broken")]
    reasons = [d.dropped for d in screen(drafts, SEEDS, longest=60)]
    assert reasons == [None, quality.DUPLICATE, quality.NEAR_DUPLICATE, quality.TWO_LABELS, quality.TWO_LABELS]


def test_another_form_of_a_row_may_resemble_it_but_not_be_it():
    origin = Provenance("p", (SEEDS[0].id,), 0, "noise", reworded=True)
    other = Provenance("p", (SEEDS[1].id,), 0, "noise", reworded=True)
    written = Provenance("p", (SEEDS[0].id,), 0, "reference")  # a prompt that shows one row does not ask for it again
    close, same = SEEDS[0].text + " today", SEEDS[0].text.upper()
    drafts = [
        Example(f"d{i}", text, SEEDS[0].label, source) for i, (text, source) in enumerate([(close, origin), (close + "!", other)])
    ]
    drafts += [Example("d2", same, SEEDS[0].label, origin), Example("d3", close + "?", SEEDS[0].label, written)]
    assert [d.dropped for d in screen(drafts[:1], SEEDS, longest=60)] == [None]
    assert [d.dropped for d in screen(drafts[1:], SEEDS, longest=60)] == [quality.COPY] * 3


def test_a_draft_to_forget_goes():
    drafts = [draft(0, "still no sign of the jacket you promised")]
    assert screen(drafts, SEEDS, longest=60, forget=["draft-0"])[0].dropped == quality.LEAKED


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=12))
def test_screening_gives_every_draft_back_in_order(texts):
    drafts = [draft(i, text) for i, text in enumerate(texts)]
    assert [d.example for d in screen(drafts, SEEDS, longest=60)] == drafts


def test_other_classes_go_and_the_rest_is_evened_out():
    drafts = [Draft(draft(i, f"text {i}", "late" if i < 8 else "broken")) for i in range(10)]
    agreement = np.array([0.9, 0.8, 0.7, 0.65, 0.62, 0.95, 0.55, 0.2, 0.9, 0.9])
    chosen = quality.even_out(quality.drop_by(AGREEMENT, drafts, agreement, 0.6), ("late", "broken"), margin=1.0)
    reasons = [d.dropped for d in chosen]
    assert reasons[6:8] == ["class unclear", "other class"]
    assert [i for i, d in enumerate(chosen) if d.dropped is None] == [0, 1, 2, 5, 8, 9]  # the median class has 4
    assert {reasons[3], reasons[4]} == {quality.SURPLUS}
    assert chosen[0].scores["agreement"] == 0.9


@pytest.mark.parametrize("counts", [(100, 0, 0), (100, 0, 0, 0, 2), (0, 7, 0)])
def test_labels_that_kept_no_draft_do_not_count_when_classes_are_evened_out(counts):
    """The median is that of the labels that kept any: 100, 51 and 7 here, and none of them is above 1.5 times its own."""
    drafts = [Draft(draft(f"{k}-{i}", "a text", str(k))) for k, n in enumerate(counts) for i in range(n)]
    chosen = quality.even_out(drafts, [str(k) for k in range(len(counts))], margin=1.5)
    most = 1.5 * np.median([n for n in counts if n])
    assert Counter(d.example.label for d in chosen if d.dropped is None) == {
        str(k): min(n, int(most)) for k, n in enumerate(counts) if n
    }


def test_reasons_that_were_given_before_stay():
    drafts = [Draft(draft(0, "a"), dropped="too short"), Draft(draft(1, "b"))]
    chosen = quality.drop_by(AGREEMENT, drafts, np.array([0.9]), 0.5)
    assert [d.dropped for d in chosen] == ["too short", None]
    assert kept(chosen) == [drafts[1].example]


def test_the_most_harmful_of_each_label_go():
    drafts = [Draft(draft(i, f"text {i}", "late" if i < 4 else "broken")) for i in range(8)]
    gains = np.array([0.1, -0.5, 0.2, 0.3, -3.0, np.nan, -1.0, -2.0])
    chosen = quality.drop_by(INFLUENCE, drafts, gains, 0.5)
    assert [i for i, d in enumerate(chosen) if d.dropped is None] == [2, 3, 5, 6, 7]  # half of each, and what cannot be judged
    assert {d.dropped for d in chosen if d.dropped} == {INFLUENCE.reason}
    assert "influence" not in chosen[5].scores


@given(
    st.text(),
    st.none() | st.builds(Provenance, st.text(), st.lists(st.text()).map(tuple), st.integers(), st.text(), st.just(("row-1",))),
    st.none() | st.lists(st.floats(0, 1), min_size=2, max_size=2).map(tuple),
    st.floats(0, 2),
)
def test_an_example_is_what_it_was_after_json(text, provenance, targets, weight):
    example = Example("x", text, "late", provenance, targets, weight)
    record = json.loads(json.dumps(example.to_json()))
    assert Example.from_json(record) == example
    assert ("weight" in record) == (weight != 1)  # what is as ever is written, and hashed, as ever


def test_agreement_is_the_probability_of_the_drafts_own_label():
    logits = np.log([[0.25, 0.75], [0.25, 0.75]])
    np.testing.assert_allclose(agreement_of(logits, np.array([0, 1])), [0.25, 0.75])
    np.testing.assert_allclose(agreement_of(np.log([[0.2, 0.6, 0.2]]), np.array([0])), [0.25])  # against the strongest other
    assert agreement_of(np.zeros((0, 2)), np.zeros(0, int)).shape == (0,)


class Coin:
    """Scores a text by its length under a prompt of its label, half of that under the generic one."""

    name = "coin"

    def generate(self, prompts, *, n, seed):
        raise NotImplementedError

    def score(self, prompts, texts):
        return np.array([len(t) * (1.0 if p.label else 0.5) for p, t in zip(prompts, texts, strict=True)])


def test_the_likelihood_ratio_is_a_difference_of_two_scores():
    scorer = LikelihoodRatioScorer(Coin(), {"late": Prompt("about late", "late")}, Prompt("anything", ""))
    np.testing.assert_allclose(scorer.score([draft(0, "abcd")]), [2.0])


def test_planted_copies_of_test_texts_are_caught_and_ordinary_drafts_are_not():
    test_texts = [
        f"question number {i} is about the {word} that I bought in spring"
        for i, word in enumerate(["lamp", "mug", "rug", "desk", "sofa"])
    ]
    planted = [draft(i, text.upper() + "!") for i, text in enumerate(test_texts)]
    ordinary = [draft(9, "nobody told me that the context had moved")]
    assert leaked([*planted, *ordinary], test_texts) == [d.id for d in planted]


def test_diversity_falls_from_distinct_to_repeated_texts():
    varied = diversity(["a red fox ran home", "blue whales sing at night", "trains stop here daily"])
    same = diversity(["a red fox ran home"] * 3)
    assert varied.distinct_1 == 1.0
    assert same.distinct_1 == pytest.approx(1 / 3)
    assert same.nearest_overlap == 1.0 > varied.nearest_overlap


def test_self_bleu_is_that_of_nltk():
    # nltk 3.10.4: the mean over rows of sentence_bleu(others, row, (0.25,) * 4, smoothing_function=SmoothingFunction().method1)
    texts = ["the card has not arrived yet", "my card has not arrived", "where is my card"]
    texts += ["the lamp arrived broken and the shade is broken", "refund please", "card"]
    assert self_bleu([text.split() for text in texts]) == pytest.approx(0.2567562953669158)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=7), max_size=6))
def test_self_bleu_is_a_share_and_full_for_repetition(rows):
    assert 0 <= self_bleu(rows) <= 1 + 1e-9
    long = [[*row, "a", "b", "c", "d"] for row in rows]
    if rows:
        assert self_bleu([*long, *long]) == pytest.approx(1)


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_coverage_is_the_definition(seed, k):
    rng = np.random.default_rng(seed)
    real, drafts = rng.normal(size=(rng.integers(k + 1, 9), 3)), rng.normal(size=(rng.integers(1, 9), 3))
    hits = 0
    for i, row in enumerate(real):
        radius = sorted(np.linalg.norm(row - other) for j, other in enumerate(real) if j != i)[k - 1]
        hits += any(np.linalg.norm(row - draft) < radius for draft in drafts)
    assert coverage(real, drafts, k=k).value == hits / len(real)


@pytest.mark.parametrize("k", [1, 3])
def test_the_expected_coverage_is_what_like_drafts_have(k):
    rng = np.random.default_rng(0)
    figures = [coverage(rng.normal(size=(12, 4)), rng.normal(size=(20, 4)), k=k) for _ in range(400)]
    assert np.mean([each.value for each in figures]) == pytest.approx(figures[0].expected, abs=0.02)


def test_unlikely_drafts_go_and_unscored_ones_stay():
    drafts = [Draft(draft(i, f"text {i}")) for i in range(4)] + [Draft(draft(9, "x"), dropped="too short")]
    left = quality.drop_by(LIKELIHOOD, drafts, np.array([0.2, -0.1, np.nan, 0.0]), 0.0)
    assert [d.dropped for d in left] == [None, LIKELIHOOD.reason, None, None, "too short"]
    assert left[0].scores["likelihood"] == 0.2


LIKES = {"late": 2.0, "broken": -1.0, "lost": 0.5}
JUDGE_PROMPTS = {label: Prompt(f"about {label}", label) for label in LIKES}


class Table:
    """Scores a text by its words' overlap with the label, by how much it likes the label, and by the text's length."""

    name = "table"

    def __init__(self):
        self.calls = []

    def generate(self, prompts, *, n, seed):
        raise NotImplementedError

    def score(self, prompts, texts):
        self.calls.append([(prompt.label, text) for prompt, text in zip(prompts, texts, strict=True)])
        return np.array([self.one(p.label, t) for p, t in zip(prompts, texts, strict=True)])

    @staticmethod
    def one(label, text):
        return np.nan if not text else -len(text) + (LIKES[label] + text.count(label) if label else 0.0)


class Counts:
    """A cheap predictor: how often a text says the label."""

    labels = tuple(LIKES)

    def logits(self, texts):
        return np.array([[float(text.count(label)) for label in self.labels] for text in texts])


def classifier(generator, *, size=None, temperature=1.0):
    shortlist = None if size is None else Shortlist(Counts(), size)
    return ReferenceClassifier(generator, JUDGE_PROMPTS, Prompt("anything", ""), temperature=temperature, shortlist=shortlist)


def test_the_judge_takes_the_mean_over_texts_out():
    """Closed form: with one mention of each label over all texts, what is left is the mention less a third."""
    table = Table()
    texts = ["it is late", "the mug is broken, all of it", "lost"]
    ours = classifier(table, temperature=0.5)
    assert isinstance(ours, Predictor) and ours.labels == tuple(LIKES)
    ratios = ours.ratios(texts)
    np.testing.assert_allclose(ratios, np.eye(3) + list(LIKES.values()))
    np.testing.assert_allclose(ours.logits(texts), (np.eye(3) - 1 / 3) / 0.5)
    assert ratios.argmax(1).tolist() == [0, 0, 0]  # uncalibrated, the label that it likes wins them all


def test_the_judge_asks_prompt_by_prompt_in_one_call():
    table = Table()
    classifier(table).ratios(["a", "b"])
    assert table.calls == [[(label, text) for label in ("", *LIKES) for text in ("a", "b")]]


@given(st.lists(st.text(alphabet="abc ", max_size=3).map(lambda text: text + "late broken"), min_size=1, max_size=6))
def test_a_shortlist_of_all_labels_is_none(texts):
    np.testing.assert_array_equal(classifier(Table(), size=3).logits(texts), classifier(Table()).logits(texts))


def test_a_shortlist_asks_about_its_labels_only_and_costs_so_much():
    table, texts = Table(), ["late late broken", "broken and lost lost", "late, lost"]
    logits = classifier(table, size=2).logits(texts)
    assert np.isneginf(logits).tolist() == [[False, False, True], [True, False, False], [False, True, False]]
    (pairs,) = table.calls
    assert len(pairs) == len(texts) * (2 + 1)
    # Each label is asked about two texts, and loses the mean over these.
    np.testing.assert_allclose(logits[:, 0], [0.5, -np.inf, -0.5])
    np.testing.assert_allclose(logits[:, 2], [-np.inf, 0.5, -0.5])


def test_a_shortlist_of_other_labels_is_refused():
    with pytest.raises(InputError, match="lost"):
        ReferenceClassifier(
            Table(), {"late": Prompt("p", "late")}, Prompt("", ""), temperature=1, shortlist=Shortlist(Counts(), 1)
        )


def test_the_judge_of_nothing_and_of_a_text_without_tokens():
    assert classifier(Table()).logits([]).shape == (0, 3)
    assert classifier(Table(), size=1).logits([]).shape == (0, 3)
    logits = classifier(Table()).logits(["", "late", "lost"])
    assert logits[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(logits[1:, 0], [0.5, -0.5])


@given(st.integers(0, 10**6))
def test_calibration_forgets_what_is_said_of_every_text(seed):
    rng = np.random.default_rng(seed)
    ratios = rng.normal(size=(5, 3))
    ratios[rng.random((5, 3)) < 0.3] = -np.inf
    shifted = calibrated(ratios + rng.normal(size=3))
    np.testing.assert_allclose(shifted, calibrated(ratios))
    assert (np.isneginf(shifted) == np.isneginf(ratios)).all()


@pytest.mark.parametrize(("first", "second"), [(("<a>", "</a>"), ("<b>", "</b>")), (("[E1]", "[/E1]"), ("[E2]", "[/E2]"))])
def test_drafts_about_two_marked_things_have_their_marks(first, second):
    def text(one, other, middle):
        return f"{first[0]}{one}{first[1]} {middle} {second[0]}{other}{second[1]}"

    seeds = [
        text("Ada", "Babbage", "worked with"),
        text("Bo", "Oslo", "lives in"),
        text("Rome", "Italy", "is in"),
        text("x", "y", "z"),
    ]
    check = form_check(seeds, longest=40)
    assert check(text("Eve", "Adam", "once met")) is None
    assert check("Eve once met Adam") == check(f"{first[0]}Eve{first[1]} once met Adam") == UNMARKED
    assert check(text("Eve", "Adam", f"{first[0]}met")) == UNMARKED
    assert form_check([*seeds, "a row without"], longest=40)("Eve once met Adam") is None
    assert form_check(seeds[:3], longest=40)("Eve once met Adam") is None
