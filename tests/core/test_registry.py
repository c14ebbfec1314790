"""A component that another package brings: found by an entry point, or registered, and used like one of ours."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from refsynth.bundle.spec import TIERS
from refsynth.core import code
from refsynth.core.code import code_of
from refsynth.core.config import RunConfig
from refsynth.core.drafting import BRANCHES, FilterConfig
from refsynth.core.errors import ConfigError
from refsynth.core.learners import LEARNERS, LearnerSpec
from refsynth.core.references import REFERENCES, Reference, ReferenceSpec
from refsynth.core.registry import Registry, code_outside, load
from refsynth.core.scorers import SCORERS, scorers_key
from refsynth.core.sections import Section
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Example
from refsynth.learning.artifact import can_save
from refsynth.learning.candidates import Candidate, Fitter
from refsynth.learning.context import learners_key
from refsynth.learning.ensemble import EnsemblePredictor
from refsynth.learning.fits import read_fits, write_fits
from refsynth.models.catalog import CATALOG
from refsynth.models.encoders import ENCODERS
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.reference.context import Training, reference_key
from refsynth.models.store import ModelStore
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from refsynth.pipeline.flow import run
from refsynth.synthesis.build import make_generator
from tests.support.registered import register
from tests.support.runs import make_task

TOY = """
import numpy as np
from refsynth.core.learners import LearnerSpec
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary


class Counting:
    \"\"\"Counts in how many rows of each label a word is.\"\"\"

    def __init__(self, labels):
        self.labels = labels

    def fit(self, train, dev, *, seed):
        words = sorted({word for row in train for word in row.text.lower().split() if word.isalpha()})
        counts = np.zeros((len(words), len(self.labels)))
        for row in train:
            for word in set(row.text.lower().split()):
                if word in words:
                    counts[words.index(word), self.labels.index(row.label)] += 1
        vectors = TfidfVectors([Vocabulary("word", 1, 1, tuple(words), np.ones(len(words)))])
        return TfidfPredictor(self.labels, vectors, LinearHead(counts, np.zeros(len(self.labels))))


def make(context):
    return Counting(context.labels)


SPEC = LearnerSpec("counting", "counts of words", "toy_learner:make", "counts of words", "TF-IDF", reads="text", small=True)
"""


TOY_REFERENCE = """
from refsynth.core.references import ReferenceSpec
from refsynth.core.types import Completion
from toy_words import WORDS


class Parrot:
    name = "parrot:1"

    def generate(self, prompts, *, n, seed):
        return [[Completion(f" {WORDS[prompt.label]} {WORDS[prompt.label]}, says number {seed % 97} {i}", True) for i in range(n)]
                for prompt in prompts]


def make(context):
    assert context.decoding["max_tokens"] == 64 and context.folder is not None
    return Parrot()


SPEC = ReferenceSpec("parrot", "toy_reference:make", "says the same again", languages=("en",), scores=False)
"""

TOY_SCORER = """
import numpy as np
from refsynth.core.scorers import ScorerSpec


class Length:
    def __init__(self, context):
        self.rows = context.rows
        assert context.reference is not None or context.rows is not None

    def score(self, drafts):
        return np.array([len(draft.text) for draft in drafts], float)


class Nearness(Length):
    def score(self, drafts):
        known = {word for row in self.rows.real for word in row.text.split()}
        assert self.rows.judge.logits([draft.text for draft in drafts]).shape == (len(drafts), 2)
        return np.array([len(set(draft.text.split()) - known) + len(draft.text) / 100 for draft in drafts])


LENGTH = ScorerSpec("length", "toy_scorer:Length", "characters", "too many characters", better="lower")
STRANGE = ScorerSpec("strange", "toy_scorer:Nearness", "words that no row has", "strange words", reads="rows", better="lower",
                     holds="share", unfit={"words": "it reads whole texts"})
WRONG = ScorerSpec("wrong", "toy_wrong:make", "nothing", "wrong")
"""

WRONG = """
class Wrong:
    def score(self, drafts):
        return [1.0]


def make(context):
    return Wrong()
"""


def install(site, monkeypatch, name, code, points):
    """Write a package beside ours, as pip would leave it."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(code, "utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(points, "utf-8")
    monkeypatch.syspath_prepend(str(site))
    for registry in (LEARNERS, REFERENCES, SCORERS, TIERS):
        monkeypatch.setattr(registry, "_found", None)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    install(tmp_path / "site", monkeypatch, "toy_learner", TOY, "[refsynth.learners]\ncounting = toy_learner:SPEC\n")


@pytest.fixture
def toy_reference(tmp_path, monkeypatch):
    site = tmp_path / "site"
    install(site, monkeypatch, "toy_reference", TOY_REFERENCE, "[refsynth.references]\nparrot = toy_reference:SPEC\n")
    (site / "toy_words.py").write_text("WORDS = {'late': 'parcel late courier', 'broken': 'crack dent pieces'}\n", "utf-8")


@pytest.fixture
def toy_scorer(tmp_path, monkeypatch):
    points = "".join(f"{name.lower()} = toy_scorer:{name}\n" for name in ("LENGTH", "STRANGE", "WRONG"))
    install(tmp_path / "site", monkeypatch, "toy_scorer", TOY_SCORER, f"[refsynth.scorers]\n{points}")
    (tmp_path / "site" / "toy_wrong.py").write_text(WRONG, "utf-8")


def predicted_without_torch(bundle):
    code = (
        "import sys, json, refsynth; said = refsynth.load(sys.argv[1]).predict(['late again']); "
        "print(json.dumps([said[0].label, any(name in sys.modules for name in ('torch', 'toy_reference', 'toy_scorer'))]))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True).stdout
    label, loaded = json.loads(told)
    assert not loaded
    return label


def test_a_learner_from_outside_runs_ships_and_is_read_back_without_torch(toy, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", learners=["counting"])
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    assert str(done.learned.decision.shipped).startswith("counting")
    assert learners_key(task.config, "en")["learners.outside"] == {"counting": code_of("toy_learner")}
    assert "counts of words" in (tmp_path / "out" / "report.md").read_text("utf-8")
    assert predicted_without_torch(done.bundle) in task.labels


def test_a_contract_needs_a_model_that_is_small_or_can_be_made_smaller(tmp_path, monkeypatch, tiny_cache):
    large = TOY.replace(", small=True", "").replace("toy_learner", "toy_large")
    install(tmp_path / "site", monkeypatch, "toy_large", large, "[refsynth.learners]\ncounting = toy_large:SPEC\n")
    task = make_task(tmp_path / "data", learners=["counting"], synthesis={"drafts": 0}, contract={"size_mb": 1})
    with pytest.raises(ConfigError, match=r"contract: the learner 'counting' won, and no smaller form can be made of its Tfidf"):
        run(task, tmp_path / "out", store=ModelStore(tiny_cache))


DOCUMENTED = Path(__file__).parents[2] / "docs/reference/components.md"


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The learner with a model of its own that the documents show, installed."""
    (module,) = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text("utf-8"), re.DOTALL)
    points = "[refsynth.learners]\nlengths = my_package:LEARNER\n[refsynth.tiers]\nlengths = my_package:TIER\n"
    install(tmp_path / "site", monkeypatch, "my_package", module, points)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")


def test_a_learner_with_a_model_of_its_own_runs_ships_and_is_read_back(documented, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", learners=["lengths"], synthesis={"drafts": 0})
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    assert json.loads((done.bundle / "manifest.json").read_bytes())["tiers"][0]["kind"] == "lengths"
    assert predicted_without_torch(done.bundle) in task.labels


@dataclass(frozen=True)
class Noted:
    """A predictor whose logits tell the rows and the seed of its fit."""

    labels: tuple[str, ...]
    told: tuple[int, ...]

    def logits(self, texts):
        return np.tile(self.told[:2], (len(texts), 1))


class Noting:
    """Fits `Noted`, or what `make` makes."""

    def __init__(self, make=None):
        self.fits, self.make = 0, make

    def fit(self, train, dev, *, seed):
        self.fits += 1
        told = len(train), seed, len(dev)
        return Noted(("a", "b"), told) if self.make is None else self.make(train, dev, seed=seed)


def test_a_fit_that_is_read_back_is_the_one_that_was_measured(documented, tmp_path, monkeypatch):
    """A model with a tier is not fitted again; one without is, with the same validation rows and seed."""
    import my_package

    register(monkeypatch, LEARNERS, LearnerSpec("noting", "noting", "nowhere:make", "nothing", tuned=True))
    rows = [Example(f"r{i}", f"{'word ' * (1 + i % 2)}{i:x}{i * 7919:x}", "ab"[i % 2]) for i in range(80)]
    kept, again = Noting(my_package.LengthLearner(SimpleNamespace(labels=("a", "b"))).fit), Noting()
    fitter = Fitter.of({"lengths": kept, "noting": again}, rows, seed=77, share=0.25)
    context = SimpleNamespace(labels=("a", "b"), encoder=None)
    made = {one: fitter.fit(one) for one in (Candidate("lengths", False), Candidate("noting", False))}
    write_fits(made, tmp_path, context, seed=77, learners=())
    read = read_fits(tmp_path, fitter).predictors(context)
    assert (kept.fits, again.fits) == (1, 2)
    assert made[Candidate("noting", False)].told[2] >= 12  # rows that decide when it stops
    assert read[Candidate("noting", False)] == made[Candidate("noting", False)]
    for candidate, model in made.items():
        assert np.allclose(read[candidate].logits(["a", "bb"]), model.logits(["a", "bb"]))


def test_an_ensemble_is_kept_only_if_all_its_members_can_be(tmp_path):
    """One with a member that cannot be written is fitted again as a whole; it was an error."""
    words = TfidfPredictor(
        ("a", "b"), TfidfVectors([Vocabulary("word", 1, 1, ("x",), np.ones(1))]), LinearHead(np.eye(1, 2), np.zeros(2))
    )
    assert can_save(EnsemblePredictor(("a", "b"), {"tfidf": words}))
    mixed = EnsemblePredictor(("a", "b"), {"tfidf": words, "noting": Noted(("a", "b"), (0, 1))})
    learner = Noting(lambda train, dev, *, seed: mixed)
    fitter, context = Fitter.of({"tfidf": learner}, [], seed=1), SimpleNamespace(labels=("a", "b"), encoder=None)
    write_fits({Candidate("tfidf", False): mixed}, tmp_path, context, seed=1, learners=())
    assert read_fits(tmp_path, fitter).predictors(context) == {Candidate("tfidf", False): mixed} and learner.fits == 1


def test_a_reference_from_outside_writes_the_drafts_of_a_run(toy_reference, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", reference="parrot", learners=["tfidf"])
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    assert done.learned.written.reference == "parrot:1" and done.learned.written.drafts
    assert reference_key(task.config) == {"code": code_of("toy_reference")}
    assert "parrot:1" in (tmp_path / "out" / "report.md").read_text("utf-8")
    assert predicted_without_torch(done.bundle) in task.labels


def test_scorers_from_outside_judge_drafts_once_and_in_each_fold(toy_scorer, tmp_path, tiny_cache):
    asked = {"length": 45.0, "strange": 0.3}
    task = make_task(tmp_path / "data", filter={"scores": asked, "agreement": 0.0}, learners=["tfidf"])
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    screened, chosen = done.learned.screened, done.learned.selected.generated
    for draft in screened:
        if "length" in draft.scores:
            assert (draft.dropped == "too many characters") == (draft.scores["length"] > 45)
    assert {"too many characters"} < {draft.dropped for draft in screened}
    judged = [draft for draft in chosen if "strange" in draft.scores]
    worst = [draft for draft in judged if draft.dropped == "strange words"]
    assert worst and len(worst) <= 0.35 * len(judged) + 1
    assert all("length" in draft.scores for draft in judged)  # what one drops the next is not asked about
    outside = {"length": code_of("toy_scorer")}, {"strange": code_of("toy_scorer")}
    assert tuple(scorers_key(task.config.filter, rows=rows) for rows in (False, True)) == outside
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "strange words" in report and "Lower is better." in report
    assert predicted_without_torch(done.bundle) in task.labels


def test_what_a_scorer_from_outside_reads_decides_which_steps_its_number_is_in(toy_scorer):
    base = {"labels": ["a", "b"], "reference": "echo", "data": {"train": "t.csv"}}
    for name, steps in {"length": {"screen"}, "strange": {"gate", "select", "form_fold"}}.items():
        trees = [settings_of(RunConfig.parse({**base, "filter": {"scores": {name: value}}})) for value in (0.1, 0.2)]
        changed = {each for each, spec in STEPS.items() if spec.settings(trees[0]) != spec.settings(trees[1])}
        assert changed == steps, name


def test_other_code_behind_what_is_brought_is_another_key(tmp_path, monkeypatch):
    """That of the module, and of the others of its package that it imports; comments are none."""
    package = tmp_path / "site" / "toy_keyed"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(package.parent))
    (package / "__init__.py").write_text("", "utf-8")
    (package / "maker.py").write_text("from toy_keyed.words import WORDS\n\n\ndef make(context):\n    return WORDS\n", "utf-8")
    keys = []
    for words in ("WORDS = 1\n", "WORDS = 1  # one\n", "WORDS = 2\n"):
        (package / "words.py").write_text(words, "utf-8")
        for cached in (code.code_of, code.closure_of, code.source_of, code_outside):
            cached.cache_clear()
        keys.append(code_outside("toy_keyed.maker:make"))
    assert keys[0] == keys[1] != keys[2]
    assert code_outside("refsynth.synthesis.selection.makers:agreement") is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference": "parot"}, r"did you mean 'parrot'"),
        ({"reference": "folder"}, r"'folder' needs more than its name; write \{folder: \.\.\.\}"),
        ({"reference": "endpoint"}, r"'endpoint' needs more than its name"),
        ({"reference": "parrot", "filter": {"scores": {"likelihood": 0}}}, r"filter\.scores\.likelihood asks the reference how"),
        (
            {"reference": "parrot", "filter": {"targets": "ensemble"}},
            r"filter\.targets asks .* 'parrot' cannot tell; take",
        ),
        ({"reference": "parrot", "learners": ["tfidf", "prompt"]}, r"learners: prompt asks .*another reference: embedded, echo"),
        (
            {"reference": "parrot", "learners": ["tfidf", "causal_lora"]},
            r"must be here \(embedded or \{folder: \.\.\.\}\)",
        ),
        (
            {"reference": "parrot", "reinforce": {"iterations": 1}, "gate": {"folds": 4}},
            r"rloo needs a reference with weights here",
        ),
        ({"filter": {"scores": {"lenght": 1}}}, r"found 'lenght', known are likelihood"),
        ({"filter": {"scores": {"agreement": 0.5}}}, r"write filter\.agreement"),
        ({"filter": {"scores": {"likelihood": float("nan")}}}, r"finite number"),
        ({"filter": {"likelihood": 0.1}}, r"unknown key 'filter\.likelihood'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(toy_reference, tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        make_task(tmp_path, **changes)


def test_a_share_and_a_kind_of_task_that_a_scorer_from_outside_does_not_know_are_refused(toy_scorer):
    with pytest.raises(ConfigError, match=r"filter\.scores\.strange: found 1\.5, expected a share"):
        RunConfig.parse({"labels": ["a", "b"], "filter": {"scores": {"strange": 1.5}}})
    tree = {"labels": ["a"], "task": "tokens", "data": {"train": "t.conll"}, "filter": {"scores": {"strange": 0.5}}}
    with pytest.raises(ConfigError, match=r"filter\.scores\.strange is not for task: tokens: it reads whole texts; take it out"):
        RunConfig.parse(tree)


def test_a_scorer_that_gives_too_few_numbers_is_refused(toy_scorer, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", filter={"scores": {"wrong": 0.5}}, learners=["tfidf"])
    with pytest.raises(ConfigError, match=r"scorer 'wrong' gave scores of shape \(1,\)"):
        run(task, tmp_path / "out", store=ModelStore(tiny_cache))


@pytest.mark.parametrize(
    ("code", "point", "told"),
    [
        ("import nowhere_to_be_found\n", "SPEC", "does not load .ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("1 / 0\n", "SPEC", "does not load .ZeroDivisionError"),
        ("", "SPEC", "does not load .AttributeError"),
        ("SPEC = 3\n", "SPEC", "is of type int\n  expected a ReferenceSpec"),
        (
            "from refsynth.core.references import REFERENCES\nSPEC = REFERENCES['echo']\n",
            "SPEC",
            "its 'echo' of .* there already",
        ),
    ],
)
def test_a_package_that_is_broken_is_named(tmp_path, monkeypatch, code, point, told):
    name = f"toy_broken_{abs(hash(code)) % 10**6}"
    install(tmp_path / "site", monkeypatch, name, code, f"[refsynth.references]\nx = {name}:{point}\n")
    with pytest.raises(ConfigError, match=told) as raised:
        make_task(tmp_path, reference="something")
    assert name in str(raised.value) and "uninstall it" in str(raised.value)


def test_a_maker_that_is_not_there_is_named(tmp_path, monkeypatch):
    spec = ReferenceSpec("toy", "nowhere_at_all:make", "nothing")
    register(monkeypatch, REFERENCES, spec)
    with pytest.raises(ConfigError, match="'nowhere_at_all:make' cannot be imported"):
        make_generator(make_task(tmp_path, reference="toy").config, ModelStore(tmp_path))
    with pytest.raises(ConfigError, match="cannot be imported"):
        load("json:no_such_thing")


def makers(spec):
    return [made for made in (spec.make, *(getattr(spec, name, "") for name in ("training", "check", "content"))) if made]


@pytest.mark.parametrize(
    "registry", [LEARNERS, REFERENCES, SCORERS, ENCODERS], ids=["learners", "references", "scorers", "encoders"]
)
def test_every_spec_keeps_its_contract(registry):
    for name, spec in registry.items():
        assert name == spec.name and spec.doc and spec.doc[-1] != "."
        if registry is not ENCODERS:
            assert all(load(made) is not None and code_outside(made) is None for made in makers(spec))
    if registry is REFERENCES:
        sections = {spec.section for spec in registry.values() if spec.section}
        assert sections == {each for each in get_args(Reference) if isinstance(each, type) and issubclass(each, Section)}
        assert sections <= set(BRANCHES.values())
        for spec in registry.values():
            known = set(spec.section.model_fields) if spec.section else set()
            assert {*spec.reached, *spec.limits} <= known and {*spec.models, *spec.weights} <= set(CATALOG)
            assert not spec.training or isinstance(load(spec.training), Training)
    if registry is SCORERS:
        reasons = [why for spec in registry.values() for why in spec.reasons]
        assert len(set(reasons)) == len(reasons) and all(spec.remedy for spec in registry.values())
        own = {f"filter.{name}" for name in FilterConfig.model_fields}
        assert {spec.key for spec in registry.values() if spec.key} <= own
    if registry is ENCODERS:
        written = {name for spec in REFERENCES.values() for name in (*spec.models, *spec.weights)}
        assert set(registry) | written == set(CATALOG) and not set(registry) & written
        needed = {*registry, *(name for spec in REFERENCES.values() for name in spec.models)}
        assert {name for name, entry in CATALOG.items() if not entry.optional} == needed
        assert list(registry.values())[-1].multilingual  # whatever the language, there is one


def test_one_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"learners\.0: found 'countin'.*did you mean"):
        make_task(tmp_path, learners=["countin"])


def test_a_registry_keeps_its_order_and_refuses_a_name_twice():
    first, second = (LearnerSpec(name, name, "json:loads", "") for name in ("b", "a"))
    registry = Registry("nobody.brings", LearnerSpec, [first])
    registry.register(second)
    assert list(registry) == ["b", "a"] and registry["a"] is second and len(registry) == 2
    with pytest.raises(ConfigError, match="there already"):
        registry.register(LearnerSpec("a", "again", "json:loads", ""))
    with pytest.raises(ValueError, match="known are b, a"):
        registry.known("c")
