"""The card of a bundle: what is in it is true, and nobody's words are markup in it."""

import json
import re

import pytest
import yaml

import refsynth
from refsynth.bundle.card import render_card
from refsynth.bundle.manifest import Label
from refsynth.compress.ship import publish
from refsynth.core.hashes import file_digest
from refsynth.core.markup import markdown
from refsynth.core.task import Task
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run

FAST = {"synthesis": {"drafts": 0}, "learners": ["tfidf"]}
HOSTILE = (
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "a | b\n| c | d |",
    "**bold** _it_ `code` ~~gone~~ # head",
    "![x](http://evil.example/x.png)",
    "https://evil.example www.evil.example me@evil.example",
    "# head",
    "1. list",
    "&lt;b&gt;",
    "x\u202eright to left\u0000",
)


@pytest.fixture
def done(small_run):
    return small_run


@pytest.mark.parametrize("words", HOSTILE)
def test_names_and_meanings_of_labels_are_text_and_nothing_else(done, words):
    manifest = refsynth.load(done.bundle).manifest
    other = manifest.model_copy(update={"labels": (Label(name=words, description=words), *manifest.labels)})
    card = render_card(other, limits=())
    table = card.split("## Labels")[1].split("## How good")[0].strip().splitlines()
    assert len(table) == 2 + len(other.labels)
    bare = re.sub(r"\\.", "", table[2])
    assert bare.count("|") == 3
    assert not re.search(r"[<>`*_\[\]~@\u202e\0]|://|www\.", bare)
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "refsynth"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b", r"a\_b"),
        ("- x", r"\- x"),
        ("12) x", r"12\) x"),
        ("a://b", "a&#58;//b"),
        ("WWW.a", "WWW&#46;a"),
        ("plain, text.", "plain, text."),
    ],
)
def test_markup_is_escaped(text, shown):
    assert markdown(text) == shown


LINEAGES = [
    ({"candidate": "tfidf", "seed": 3, "reference": "none", "reason": "there are no drafts"}, "Trained by a run: tfidf, seed 3."),
    ({"candidate": "tfidf", "seed": 3, "reference": "<b>x</b>", "reason": "a"}, "&lt;b&gt;x&lt;/b&gt;"),
    ({}, "Not recorded."),
]


@pytest.mark.parametrize(("lineage", "said"), LINEAGES)
def test_the_card_says_what_the_run_noted_of_the_model(done, lineage, said):
    manifest = refsynth.load(done.bundle).manifest.model_copy(update={"lineage": lineage})
    section = render_card(manifest, limits=()).split("## Data")[1].split("## Limits")[0]
    assert said in section
    assert ("Not recorded." in section) == (not lineage)


def test_the_card_of_a_run_says_what_it_was_made_of(done):
    section = (done.bundle / "README.md").read_text("utf-8").split("## Data")[1].split("## Limits")[0]
    assert "Trained by a run: tfidf" in section


def test_card_manifest_and_report_have_one_figure_for_one_thing(done):
    """So has /v1/models, which gives what the manifest has."""
    results, manifest = done.report.results, refsynth.load(done.bundle).manifest
    shipped = results.shipped.accuracy
    found = manifest.metrics["accuracy"]
    assert (found.value, found.low, found.high, found.n) == (shipped.value, shipped.low, shipped.high, shipped.n)
    assert manifest.metrics["cross-validated accuracy"].value == results.crossed.value
    card = (done.bundle / "README.md").read_text("utf-8")
    assert f"| accuracy | {shipped.value:.3f} |" in card
    assert "The accuracy was measured on a test file. Its rows only took out drafts and pool texts that resemble them." in card
    assert f"is {100 * results.crossed.value:.1f}%" in done.paths.markdown.read_text("utf-8")
    assert json.loads(done.paths.json.read_text("utf-8"))["results"]["crossed"]["value"] == results.crossed.value


def test_without_a_test_file_the_one_figure_is_cross_validated(done, tmp_path, tiny_cache):
    data = {"train": str(done.evidence.task.train)}
    task = Task.of(done.evidence.task.config.changed([f"data={json.dumps(data)}"]))
    other = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    (name,) = metrics = refsynth.load(other.bundle).manifest.metrics
    assert name == "cross-validated accuracy"
    assert metrics[name].value == other.report.results.shipped.accuracy.value
    assert other.report.results.crossed is None
    same = [
        {path.name: file_digest(path) for path in each.iterdir() if path.suffix not in (".md",)}
        for each in (done.bundle, other.bundle)
    ]
    assert {name for name in same[0] if same[0][name] != same[1][name]} == {"manifest.json"}


def test_what_is_published_again_stays_as_it_is(done):
    before = {path.name: (file_digest(path), path.stat().st_ino) for path in done.bundle.iterdir()}
    publish(done.evidence.tiers.bundle, done.bundle, tested=[done.report.results.shipped.accuracy])
    assert {path.name: (file_digest(path), path.stat().st_ino) for path in done.bundle.iterdir()} == before
    assert sorted(path.name for path in done.bundle.parent.glob(".bundle*")) == []


def test_the_words_in_a_bundle_are_owned_up_to(done):
    terms = {term for part in json.loads((done.bundle / "vocabulary.json").read_text("utf-8"))["parts"] for term in part["terms"]}
    assert "parcel" in terms
    assert "It carries the words, pairs of words and pieces of words" in (done.bundle / "README.md").read_text("utf-8")
    assert "few words" not in (done.bundle / "README.md").read_text("utf-8")
