"""A bundle as a list of tiers: what its manifest may say, fields that nobody knows, a kind from outside, more than two."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from refsynth import bundle
from refsynth.bundle.certificate import PROFILE, Certificate
from refsynth.bundle.manifest import MANIFEST, SCHEMA_VERSION
from refsynth.bundle.opening import Opening
from refsynth.bundle.packing import PackedTier
from refsynth.core.errors import BundleError
from refsynth.core.types import FloatArray
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from tests.support.registered import register

LABELS, TERMS = ("card", "loan"), ("card", "lost", "loan")
CERTIFICATE = Certificate(alpha=0.1, delta=0.1, n=9, answered=5, disagreed=0, profile=(0,) * PROFILE, assumptions=())


@dataclass(frozen=True)
class Lengths:
    """A kind of model from another package: what it makes of a text depends on its length alone."""

    kind: ClassVar[str] = "lengths"
    labels: tuple[str, ...]
    head: LinearHead
    variant: str = "exact"

    def logits(self, texts: Sequence[str]) -> FloatArray:
        return self.head.logits(np.array([[len(text) / 100] for text in texts]))


def pack_lengths(predictor: Lengths, folder: Path) -> PackedTier:
    del folder
    return PackedTier("lengths", predictor.head.tensors(), {"unit.txt": b"characters"})


def open_lengths(given: Opening, variant: str) -> Lengths:
    if given.read("unit.txt") != b"characters":
        raise BundleError(f"{given.folder}: no such unit")
    return Lengths(given.labels, given.head, variant)


SPEC = bundle.TierSpec(
    "lengths", "lengths", "the length of a text", f"{__name__}:open_lengths", f"{__name__}:pack_lengths", ("unit.txt",)
)


def words() -> TfidfPredictor:
    """A model that knows the words of `TERMS`."""
    part = Vocabulary("word", 1, 1, TERMS, np.ones(3))
    return TfidfPredictor(LABELS, TfidfVectors([part]), LinearHead(np.array([[9.0, 0], [1, 0], [0, 9]]), np.zeros(2)))


def lengths() -> Lengths:
    """A model that calls long texts loans."""
    return Lengths(LABELS, LinearHead(np.array([[0.0, 3.0]]), np.array([0.5, 0.0])))


@pytest.fixture
def outside(monkeypatch):
    """The kind of tier from outside, registered."""
    register(monkeypatch, bundle.TIERS, SPEC)


def tier(predictor, early: float | None = None) -> bundle.TierContents:
    asked = None if early is None else bundle.EarlyExit(threshold=early, certificate=CERTIFICATE)
    return bundle.TierContents(bundle.pack(predictor, Path()), predictor, bundle.Calibration(), early=asked)


def save(folder: Path, *tiers: bundle.TierContents) -> Path:
    bundle.save(folder, bundle.Contents(labels=dict.fromkeys(LABELS, ""), language="en", tiers=tiers))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of one tier."""
    return save(tmp_path / "bundle", tier(words()))


def change(folder: Path, place: Sequence[str | int], value: object) -> None:
    """Write a value into a place of the manifest."""
    tree = json.loads((folder / MANIFEST).read_bytes())
    holder = tree
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    (folder / MANIFEST).write_text(json.dumps(tree))


UNKNOWN = [
    (["new"], 1, "new"),
    (["new"], {"deep": [1, {"a": None}]}, "new"),
    (["tiers", 0, "new"], "x", "tiers.0.new"),
    (["tiers", 0, "calibration", "new"], None, "tiers.0.calibration.new"),
    (["labels", 1, "new"], [], "labels.1.new"),
    (["none", "new"], 0.5, "none.new"),
    (["columns", "new"], "y", "columns.new"),
    (["files", "README.md", "new"], 3, "files.README.md.new"),
    (["a\nb\x1b[31m"], 1, r"a\nb\x1b[31m"),
]


@pytest.mark.parametrize(("place", "value", "named"), UNKNOWN)
def test_an_unknown_optional_field_is_ignored_with_a_warning(folder, place, value, named):
    before = bundle.load(folder)
    change(folder, place, value)
    with pytest.warns(RuntimeWarning) as caught:
        model = bundle.load(folder)
    (said,) = (str(one.message) for one in caught)
    assert said.endswith(f"does not know: {named}") and "\n" not in said
    assert model.manifest == before.manifest
    np.testing.assert_array_equal(model.probabilities(["lost card"]), before.probabilities(["lost card"]))


def test_many_unknown_fields_make_one_short_warning(folder):
    tree = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**tree, **{f"{n}{'x' * 500}": n for n in range(1000)}}))
    with pytest.warns(RuntimeWarning, match="and 995 more") as caught:
        bundle.load(folder)
    assert len(caught) == 1 and len(str(caught[0].message)) < 1000


REFUSED = [
    (["schema_version"], SCHEMA_VERSION + 1, "newer refsynth made it: upgrade"),
    (["schema_version"], SCHEMA_VERSION - 1, "older refsynth made it: run its task again"),
    (["schema_version"], 1, "older refsynth"),
    (["schema_version"], "4", "schema_version"),
    (["schema_version"], True, "schema_version"),
    (["tiers"], [], "tiers: "),
    (["tiers", 0, "kind"], "quantum", "tiers.0.kind: .*'quantum', known are"),
    (["tiers", 0, "kind"], "encoder", "the files of a tier of kind encoder"),
    (["tiers", 0, "files"], ["../x", "golden.json", "head.safetensors"], "the files of a tier"),
    (["tiers", 0, "files"], ["golden.json", "golden.json", "head.safetensors", "vocabulary.json"], "the files of a tier"),
    (["tiers", 0, "files"], ["golden.json", "head.safetensors", "tfidf-vocabulary.json"], "expected plain names"),
    (["tiers", 0, "max_tokens"], 8, "has no max_tokens"),
    (["tiers", 0, "early"], {"threshold": 0.5, "certificate": CERTIFICATE.model_dump(mode="json")}, "each tier except the last"),
    (["none", "learned"], {"texts": 1, "found": 1.0, "low": 0.0, "high": 1.0, "alone": 0.0}, "needs the field 'rule'"),
    (["merge"], "yes", "merge"),
    (["columns"], {"text": 5}, "columns"),
]


@pytest.mark.parametrize(("place", "value", "message"), REFUSED)
@pytest.mark.parametrize("unknown", [False, True])
def test_a_wrong_field_is_refused_whatever_stands_beside_it(folder, place, value, message, unknown):
    change(folder, place, value)
    if unknown:
        change(folder, ["brand_new"], 1)
    with warnings.catch_warnings(), pytest.raises(BundleError, match=message):
        warnings.simplefilter("error")
        bundle.load(folder)


def test_a_kind_that_occurs_twice_is_refused(folder):
    tree = json.loads((folder / MANIFEST).read_bytes())
    change(folder, ["tiers"], tree["tiers"] * 2)
    with pytest.raises(BundleError, match="occurs twice"):
        bundle.load(folder)


def test_nothing_is_decided_by_the_lineage(folder):
    before = bundle.load(folder).manifest
    card = (folder / "README.md").read_text("utf-8")
    told = {"merge": True, "columns": {"text": "t"}, "unsure": {}, "none": {}, "none_unknown": "x", "tested": ["a"], "steps": 3}
    change(folder, ["lineage"], {**told, "form": "few words"})
    after = bundle.load(folder).manifest
    assert after.model_copy(update={"lineage": before.lineage}) == before
    from refsynth.bundle.card import render_card

    assert render_card(after, limits=()) == card


def test_a_tier_from_outside_answers_in_front_of_another(outside, tmp_path):
    folder = save(tmp_path / "b", tier(lengths(), early=0.9), tier(words()))
    model = bundle.load(folder)
    assert [one.kind for one in model.manifest.tiers] == ["lengths", "tfidf"]
    assert {"lengths-unit.txt", "lengths-head.safetensors", "lengths-golden.json"} < set(model.manifest.files)
    long, short = "a loan " * 40, "lost card"
    found = model.answer([short, long])
    assert found.tiers.tolist() == [1, 0] and found.passed.tolist() == [True, False]
    assert [one.label for one in model.predict([short, long])] == ["card", "loan"]
    for name in sorted(path.name for path in folder.iterdir()):
        broken = shutil.copytree(folder, tmp_path / f"broken-{name}")
        (broken / name).unlink()
        with pytest.raises(BundleError):
            bundle.load(broken)


def test_without_the_package_that_knows_it_a_tier_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        register(patch, bundle.TIERS, SPEC)
        folder = save(tmp_path / "b", tier(lengths()))
    with pytest.raises(BundleError, match="found 'lengths', known are"):
        bundle.load(folder)


@pytest.mark.parametrize(
    ("bars", "places"), [((0.0, 0.0), [0, 0]), ((1.0, 0.0), [1, 1]), ((1.0, 1.0), [2, 2]), ((0.9, 1.0), [2, 0])]
)
def test_three_tiers_are_asked_in_their_order(outside, tmp_path, monkeypatch, bars, places):
    other = bundle.TierSpec("more", "more", "the same", SPEC.open, SPEC.pack, SPEC.files)
    register(monkeypatch, bundle.TIERS, other)
    middle = tier(lengths(), early=bars[1])
    middle = bundle.TierContents(
        PackedTier("more", middle.packed.tensors, middle.packed.files), middle.reference, middle.calibration, middle.early
    )
    model = bundle.load(save(tmp_path / "b", tier(lengths(), early=bars[0]), middle, tier(words())))
    found = model.answer(["lost card", "a loan " * 40])
    assert found.tiers.tolist() == places
    assert "## 3 tiers" in (tmp_path / "b" / "README.md").read_text("utf-8")
    assert [one.tiers.tolist() for one in model.by_tier(["a"])] == [[0], [1], [2]]


def test_files_that_are_the_same_are_kept_once_and_others_are_not(outside, tmp_path):
    model = bundle.load(save(tmp_path / "b", tier(lengths(), early=0.5), tier(words())))
    shared = set(model.manifest.tiers[0].files) & set(model.manifest.last.files)
    assert shared == set()
    assert model.manifest.names == {path.name for path in (tmp_path / "b").iterdir()} - {MANIFEST}


@pytest.mark.parametrize("name", ["tfidf", "crf", "static", "encoder", "tagger"])
def test_each_kind_names_what_opens_and_packs_it(name):
    from refsynth.core.registry import load

    spec = bundle.TIERS[name]
    assert callable(load(spec.open)) and callable(load(spec.pack))
    assert spec.doc and spec.title and spec.variants


def test_what_reads_a_manifest_loads_no_torch_and_no_runtime():
    code = "import sys, refsynth.bundle.opening; print({'torch', 'onnxruntime', 'yaml'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
