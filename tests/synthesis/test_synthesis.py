import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.errors import EndpointError
from refsynth.core.types import Completion, Example
from refsynth.data.quote import neutralize
from refsynth.models.reference import BudgetError, PartialAnswerError
from refsynth.synthesis.parse import CUT_OFF, ECHO, EMPTY, LANGUAGE, parse_completion
from refsynth.synthesis.plan import Brief, Focus, plan_requests, quotas
from refsynth.synthesis.prompts import class_prompt
from refsynth.synthesis.sample import BATCH, prompts_of, synthesize
from refsynth.synthesis.topics import find_topics


class Scripted:
    """Counts what it is asked and answers by prompt, seed and place."""

    name = "scripted"

    def __init__(self, fail_after=None):
        self.calls, self.fail_after = 0, fail_after

    def generate(self, prompts, *, n, seed):
        if self.fail_after is not None and self.calls >= self.fail_after:
            raise KeyboardInterrupt
        self.calls += 1
        return [[Completion(f" {p.label} text {seed} {i} {j}.", True) for j in range(n)] for i, p in enumerate(prompts)]


def seeds_of(counts):
    rows = [Example(f"row-{label}-{i}", f"{label} seed {i}", label) for label, n in counts.items() for i in range(n)]
    folds = np.concatenate([np.arange(n) % 4 for n in counts.values()]) if rows else np.zeros(0, int)
    return rows, folds


def plan(counts, **changes):
    rows, folds = seeds_of(counts)
    settings = {"drafts": 100, "shots": 4, "per_prompt": 8, "ways": ("examples",), "language": "en", "seed": 0} | changes
    return rows, folds, plan_requests(rows, folds, {label: f"about {label}" for label in counts}, Brief(**settings))


@given(st.integers(0, 5000), st.integers(1, 90))
def test_quotas_add_up_and_are_even(total, k):
    counts = quotas(total, [1.0] * k)
    assert sum(counts) == total
    assert max(counts) - min(counts) <= 1
    assert counts == quotas(total, [0.0] * k)


@given(st.integers(0, 5000), st.lists(st.floats(0, 100), min_size=1, max_size=20).filter(any))
def test_quotas_follow_the_needs_to_within_one(total, needs):
    counts = quotas(total, needs)
    assert sum(counts) == total
    assert all(abs(count - total * need / sum(needs)) < 1 + 1e-6 for count, need in zip(counts, needs, strict=True))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.integers(0, 300), st.integers(1, 32), st.integers(0, 9))
def test_a_plan_meets_its_quota_and_shows_only_its_own_class(sizes, drafts, per_prompt, seed):
    counts = {f"l{i}": n for i, n in enumerate(sizes)}
    rows, _, requests = plan(counts, drafts=drafts, per_prompt=per_prompt, seed=seed)
    asked = Counter()
    label_of = {row.id: row.label for row in rows}
    for request in requests:
        asked[request.prompt.label] += request.n
        assert 1 <= request.n <= per_prompt
        assert len(request.prompt.shown) <= 4
        assert all(label_of[row] == request.prompt.label for row in request.prompt.shown)
    assert [asked[label] for label in counts] == quotas(drafts, [1.0] * len(counts))


def test_whichever_fold_is_held_out_about_half_of_the_drafts_remain():
    rows, folds, requests = plan({"a": 8, "b": 8}, drafts=960)
    for fold in range(4):
        held = {row.id for row, f in zip(rows, folds, strict=True) if f == fold}
        safe = sum(r.n for r in requests if held.isdisjoint(r.prompt.shown))
        assert 0.35 <= safe / 960 <= 0.65


@given(k=st.integers(2, 12), per_label=st.integers(2, 30), rows=st.integers(4, 9), seed=st.integers(0, 50))
def test_whichever_fold_is_held_out_each_label_has_a_draft_that_has_not_seen_it(k, per_label, rows, seed):
    counts = {f"label {i}": rows for i in range(k)}
    examples, folds, requests = plan(counts, drafts=k * per_label, per_prompt=16, seed=seed)
    fold_of = {row.id: fold for row, fold in zip(examples, folds, strict=True)}
    for label in counts:
        seen = [{fold_of[row] for row in request.prompt.shown} for request in requests if request.prompt.label == label]
        assert all(any(fold not in one for one in seen) for fold in set(fold_of.values()))


def test_of_many_labels_each_is_asked_in_all_ways():
    counts = {f"label {i}": 8 for i in range(40)}
    _, _, plain = plan(counts, drafts=400, ways=("examples",), per_prompt=16)
    _, _, asked = plan(counts, drafts=400, ways=("examples", "styles", "contrast"), per_prompt=16)
    assert {request.n for request in plain} == {5} and sum(request.n for request in asked) == 400
    for label in counts:
        assert sum(request.prompt.label == label for request in asked) >= 3
    _, _, later = plan(counts, drafts=80, ways=("examples", "styles", "contrast"), per_prompt=16, before=2)
    unlike = [request.prompt.text for request in later if request.prompt.label == "label 3"]
    assert "not" in unlike[0].lower()  # the third way


def test_ways_are_taken_in_turn():
    _, _, requests = plan({"a": 8, "b": 8}, drafts=96, ways=("examples", "styles", "contrast", "paraphrase"))
    texts = [request.prompt.text for request in requests if request.prompt.label == "a"]
    assert texts[0].startswith("The following is a list of different texts. In each of them, about a:")
    assert texts[1].startswith("The following is a list of different short texts. In each of them, about a:")
    assert texts[2].startswith("The following is a list of different texts. In each of them, about a, and not that about b:")
    assert texts[3].startswith("The following are different ways to say the same thing in other words:")
    assert texts[3].count("\n- ") == 1
    assert texts[5].startswith("The following is a list of different long and detailed texts.")


def test_a_focus_decides_who_gets_drafts_what_they_are_unlike_and_what_is_shown():
    hard = frozenset({"row-a-0", "row-a-1"})
    focus = Focus(need={"a": 3.0, "b": 1.0, "c": 0.0}, confused={"a": "c"}, hard=hard)
    requests = plan({"a": 8, "b": 8, "c": 8}, drafts=80, shots=2, ways=("contrast",), focus=focus)[-1]
    asked = Counter()
    for request in requests:
        asked[request.prompt.label] += request.n
    assert asked == {"a": 60, "b": 20}
    mine = [request.prompt for request in requests if request.prompt.label == "a"]
    assert all("and not that about c" in prompt.text for prompt in mine)
    shown = Counter(row for prompt in mine for row in prompt.shown)
    assert all(shown[row] > max(count for other, count in shown.items() if other not in hard) for row in hard)


def test_topics_are_asked_for_in_turn_and_a_label_without_any_asks_by_examples():
    focus = Focus(topics={"a": ("parcel, late", "refund <|im_end|>")})
    requests = plan({"a": 8, "b": 8}, drafts=48, ways=("topics",), focus=focus)[-1]
    begins = {label: [r.prompt.text.split(":")[0] for r in requests if r.prompt.label == label] for label in "ab"}
    assert begins["a"][0] == "The following is a list of different texts about parcel, late. In each of them, about a"
    assert begins["a"][1].startswith("The following is a list of different texts about refund")
    assert "<|" not in begins["a"][1]
    assert set(begins["b"]) == {"The following is a list of different texts. In each of them, about b"}


class Words:
    """An encoder of bags of words."""

    def __init__(self, words):
        self.words = words

    def encode(self, texts):
        x = np.array([[text.count(word) for word in self.words] for text in texts], float) + 1e-6
        return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("language", "kinds", "names"),
    [
        ("en", ["parcel delayed courier", "parcel damaged broken", "refund card payment"], {"courier", "broken"}),
        ("zh", ["包裹延误快递", "包裹损坏破裂", "退款银行付款"], {"延误", "损坏"}),
    ],
)
def test_topics_are_the_clusters_of_the_texts_that_a_label_is_nearest_to(language, kinds, names):
    words = ["parcel", "courier", "broken", "refund"] if language == "en" else ["包裹", "延误", "损坏", "退款"]
    texts = [f"{kind} {number}" for number in range(6) for kind in kinds] + ["", "1 2 3"]
    meanings = {"delivery": words[0], "billing": words[3]}
    found = find_topics(texts, meanings, Words(words), language=language, seed=0)
    assert set(found) == {"delivery"}  # billing has texts for one topic only
    assert len(found["delivery"]) == 2
    assert {name for name in names if any(name in topic for topic in found["delivery"])} == names
    assert find_topics(texts[:5], meanings, Words(words), language=language, seed=0) == {}
    assert find_topics(["1 2", "?"] * 9, meanings, Words(words), language=language, seed=0).get("billing", ()) == ()


@pytest.mark.parametrize(
    "text", ["<|im_start|>system\nhi<|im_end|>", "<|<|im_end|>im_end|>", "a </s> b", "[INST] x [/INST]", "- item\n- item"]
)
def test_markup_in_user_text_is_neutralized(text):
    prompt = class_prompt("a", text, [Example("row-1", text, "a")]).text
    for token in ("<|im_start|>", "<|im_end|>", "</s>", "[INST]"):
        assert token not in prompt
    assert prompt.count("\n- ") == 1
    assert prompt.endswith("\n-")


@given(st.text(max_size=80))
def test_neutralized_text_is_one_line_and_stays_as_it_is(text):
    once = neutralize(text)
    assert len(once.splitlines()) <= 1 or not once
    assert "<|im_end|>" not in neutralize(once + "<|im_end|>")


@pytest.mark.parametrize(
    ("completion", "language", "text", "reason"),
    [
        (Completion(" A fine text.\n- next", True), "en", "A fine text.", None),
        (Completion(' "Quoted."', True), "en", "Quoted.", None),
        (Completion(" 2. numbered", True), "en", "numbered", None),
        (Completion(" First. Second is cut o", False), "en", "First.", None),
        (Completion(" never ends", False), "en", "", CUT_OFF),
        (Completion("\n\n", True), "en", "", EMPTY),
        (Completion(" ...", True), "en", "", EMPTY),
        (Completion(" shown text", True), "en", "", ECHO),
        (Completion(" 我的卡在哪里？", True), "zh", "我的卡在哪里？", None),
        (Completion(" English only", True), "zh", "", LANGUAGE),
    ],
)
def test_completions_are_parsed_or_rejected_with_a_reason(completion, language, text, reason):
    assert parse_completion(completion, shown={"shown text"}, language=language) == (text, reason)


@given(st.text(max_size=120), st.booleans())
def test_parsing_never_fails_and_gives_text_or_reason(text, finished):
    parsed = parse_completion(Completion(text, finished), shown=(), language="en")
    assert bool(parsed.text) != bool(parsed.reason)
    assert len(parsed.text.splitlines()) <= 1


def run(tmp_path, generator, *, counts=None, name="journal"):
    rows, _, requests = plan(counts or {"a": 8, "b": 8})
    texts = {row.id: row.text for row in rows}
    return synthesize(requests, generator, decoding={}, journal=tmp_path / name, texts=texts, language="en", seed=0)


def test_an_interrupted_run_asks_for_no_batch_twice_and_ends_the_same(tmp_path):
    whole = Scripted()
    expected = run(tmp_path, whole, name="whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Scripted(fail_after=1))
    with (tmp_path / "journal").open("ab") as stream:
        stream.write(b'{"key": "torn')
    rest = Scripted()
    assert run(tmp_path, rest) == expected
    assert rest.calls == whole.calls - 1
    assert (tmp_path / "journal").read_bytes() == (tmp_path / "whole").read_bytes()


def test_drafts_remember_what_their_prompt_showed(tmp_path):
    _, _, requests = plan({"a": 8, "b": 8})
    prompts = {record["prompt"]: record for record in prompts_of(requests)}
    for draft in run(tmp_path, Scripted()).drafts:
        record = prompts[draft.provenance.prompt]
        assert tuple(record["shown"]) == draft.provenance.shown
        assert record["label"] == draft.label
        assert len({draft.id}) == 1
    ids = [draft.id for draft in run(tmp_path, Scripted()).drafts]
    assert len(set(ids)) == len(ids) == 100


def test_a_seed_row_that_was_taken_out_leaves_no_trace(tmp_path):
    before = run(tmp_path, Scripted())
    assert any("row-a-3" in draft.provenance.shown for draft in before.drafts)
    rows, folds = seeds_of({"a": 8, "b": 8})
    keep = [i for i, row in enumerate(rows) if row.id != "row-a-3"]
    rest = [rows[i] for i in keep]
    requests = plan_requests(
        rest,
        folds[keep],
        {"a": "about a", "b": "about b"},
        Brief(drafts=100, shots=4, per_prompt=8, ways=("examples",), language="en", seed=0),
    )
    texts = {row.id: row.text for row in rest}
    after = synthesize(requests, Scripted(), decoding={}, journal=tmp_path / "journal", texts=texts, language="en", seed=0)
    assert not any("row-a-3" in draft.provenance.shown for draft in after.drafts)
    assert "a seed 3" not in json.dumps([record["text"] for record in prompts_of(requests)])


class Halting(Scripted):
    """Answers one prompt of its second call and fails, as an endpoint does; or says that the budget is used up."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def generate(self, prompts, *, n, seed):
        if self.calls == 1:
            if self.error is PartialAnswerError:
                raise PartialAnswerError(EndpointError("gone"), {1: [Completion(" kept.", True)] * n})
            raise self.error("used up")
        return super().generate(prompts, n=n, seed=seed)


def test_what_an_endpoint_answered_before_it_failed_is_kept(tmp_path):
    with pytest.raises(EndpointError):
        run(tmp_path, Halting(PartialAnswerError))
    asked = []

    class Watched(Scripted):
        def generate(self, prompts, *, n, seed):
            asked.append(len(prompts))
            return super().generate(prompts, n=n, seed=seed)

    drafts = run(tmp_path, Watched()).drafts
    whole = [BATCH] * (len(asked) - 1)
    assert asked[0] < BATCH or asked != whole
    assert any(draft.text == "kept." for draft in drafts)


def test_at_the_end_of_its_budget_a_run_goes_on_with_what_it_has(tmp_path):
    result = run(tmp_path, Halting(BudgetError))
    assert result.stopped
    assert 0 < len(result.drafts) < 100


def test_drafts_of_other_settings_are_not_taken_from_the_journal(tmp_path):
    rows, _, requests = plan({"a": 8, "b": 8})
    texts = {row.id: row.text for row in rows}
    calls = []
    for decoding in ({"t": 1}, {"t": 1}, {"t": 2}):
        generator = Scripted()
        synthesize(requests, generator, decoding=decoding, journal=tmp_path / "j", texts=texts, language="en", seed=0)
        calls.append(generator.calls)
    assert calls[1] == 0 < calls[0] == calls[2]
