"""Every sentence on a run is true of its state: all states of measuring, drafts and contract, one after the other."""

from dataclasses import replace
from itertools import product

import pytest

from refsynth.core.types import Metric
from refsynth.evaluation.advice import advise
from refsynth.evaluation.headline import verdict
from refsynth.evaluation.origins import Drafting, Drafts
from refsynth.evaluation.report import Report, render_html, render_markdown, to_json
from refsynth.evaluation.sections import Comparison, Compression, Gate, Results, System, Variant
from refsynth.evaluation.state import state_of

SCORE = Metric("accuracy", 0.82, 0.75, 0.87, 120)
USUAL = Metric("accuracy", 0.4, 0.3, 0.5, 120)
MEASURED = ("test file", "cross-validation", "not what ships", "nothing")
GAINS = {
    "helpful": Metric("gain", 0.06, 0.02, 0.1, 64),
    "harmful": Metric("gain", -0.06, -0.1, -0.02, 64),
    "unclear": Metric("gain", 0.025, -0.075, 0.125, 64),
}
USES = ("off", "unwritten", "unkept", "untested", "unchosen", *GAINS)
CONTRACTS = ("none", "kept", "missed")


def results(measured):
    if measured == "nothing":
        return None
    usual = System(name="majority", accuracy=USUAL, usual=True)
    shipped = System(name="shipped", accuracy=None if measured == "not what ships" else SCORE, shipped=True)
    file = "exam.csv" if measured == "test file" else ""
    return Results(systems=(usual, shipped), source="test file" if file else "cross-validation", n=120, file=file)


def gate(use):
    if use in ("off", "unwritten", "unkept", "untested"):
        return None
    gain = GAINS.get(use)
    line = Comparison(learner="tfidf", real=SCORE, augmented=SCORE if gain else None, gain=gain)
    return Gate(comparisons=(line,), accepted=use == "helpful", learner="tfidf", reason="as measured", folds=4, repeats=1)


def drafts(use):
    if use in ("off", "unwritten"):
        return None
    kept = 0 if use == "unkept" else 40
    return Drafts(reference="echo", asked=64, parsed=50, kept=kept, dropped={"malformed": 14})


def state(measured, use, contract):
    form = Variant(name="full", size_mb=24.0, shipped=True)
    return Report(
        title="t",
        task="classify",
        language="en",
        date="2026-03-14",
        version="0",
        labels={"a": "", "b": ""},
        results=results(measured),
        gate=gate(use),
        drafts=drafts(use),
        drafting=Drafting(wanted=0 if use == "off" else 64, rows=48, hindrance="it writes English" if use == "unwritten" else ""),
        compression=None
        if contract == "none"
        else Compression(variants=(form,), asked="p50_ms: 1", met=contract == "kept", choice="The smallest ships."),
    )


def documents(report):
    return (verdict(report), " ".join(advise(report)), render_html(report), render_markdown(report), to_json(report))


@pytest.mark.parametrize(("measured", "use", "contract"), list(product(MEASURED, USES, CONTRACTS)))
def test_no_state_is_told_as_another(measured, use, contract):
    report = state(measured, use, contract)
    found = state_of(report)
    assert (found.measured, found.use, found.contract) == (measured, use, contract)
    headline, advice, *pages = documents(report)
    said = {
        # what may be said: in which states it is so
        "This model was not measured": measured == "nothing",
        "The shipped model was not measured on labeled rows": measured == "not what ships",
        "The bundle's accuracy is 82.0% [75.0-87.0]": measured in ("test file", "cross-validation"),
        "rows of exam.csv": measured == "test file",
        "real rows, cross-validated": measured == "cross-validation",
        "No drafts were requested (synthesis.drafts: 0)": use == "off",
        "64 drafts were requested and none was written: it writes English": use == "unwritten",
        "64 drafts were requested, 50 were written and none was kept": use == "unkept",
        "trained with drafts, whose effect was not measured on real rows": use == "untested",
        "The learner that ships was not measured with drafts": use == "unchosen",
        "Drafts help: +6.0 points [+2.0, +10.0]": use == "helpful",
        "Drafts do harm: -6.0 points [-10.0, -2.0]": use == "harmful",
        "The effect of drafts is not distinguishable from chance: +2.5 points [-7.5, +12.5]": use == "unclear",
        "so the bundle is trained with them": use == "helpful",
        "bundle is trained on real rows only": use not in ("helpful", "untested"),
        "No form of the model keeps the contract (p50_ms: 1)": contract == "missed",
    }
    assert {line for line in said if line in headline} == {line for line, so in said.items() if so}
    assert headline.startswith(("The bundle's accuracy", "This model was not measured", "The shipped model was not measured"))
    assert ("serve it" in " ".join(pages)) == (measured == "test file" and not advise(report))
    assert ("before you rely on it" in advice) == (measured in ("nothing", "not what ships"))
    assert ("Lower the demands under contract" in advice) == (contract == "missed")
    assert ("synthesis.drafts: 0" in " ".join(pages)) == (use == "off")
    assert "Set aside a test file" not in advice or measured == "cross-validation"
    for page in pages[:2]:
        assert ("Drafts are used, untested" in page) == (use == "untested" and page.startswith("<"))
        assert ("No form keeps it; the nearest ships." in page) == (contract == "missed")


@pytest.mark.parametrize(
    ("drafting", "use", "told"),
    [
        (Drafting(wanted=0, rows=0), "untested", "trained with texts of the pool, whose effect"),
        (Drafting(wanted=64, rows=0, hindrance="no answer"), "unwritten", "trained on the descriptions of the labels alone"),
        (
            Drafting(wanted=64, rows=9, pool=5),
            "unclear",
            "The effect of drafts and texts of the pool is not distinguishable from chance",
        ),
    ],
)
def test_what_is_learned_from_is_called_by_its_name(drafting, use, told):
    pool = replace(drafting, pool=7) if use == "untested" else drafting
    base = state("test file", use, "none")
    report = replace(base, drafting=pool, drafts=None if use == "untested" else base.drafts)
    assert told in verdict(report)
    assert "0 drafts were requested" not in " ".join(documents(report))


@pytest.mark.parametrize(("low", "told"), [(0.39, True), (0.4, True), (0.41, False)])
def test_a_model_that_cannot_be_told_from_the_most_frequent_answer_is_not_praised(low, told):
    base = state("test file", "off", "none")
    systems = (base.results.systems[0], System(name="shipped", accuracy=replace(SCORE, low=low), shipped=True))
    report = replace(base, results=replace(base.results, systems=systems))
    assert ("not clearly better than always giving the most frequent answer (40.0%)" in verdict(report)) == told


def test_rows_on_which_it_is_unsure_are_named_only_where_there_are_some():
    report = state("test file", "off", "none")
    assert "if 82.0% [75.0-87.0] is good enough, serve it." in render_markdown(report)
