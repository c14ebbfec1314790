"""What each step depends on: this table is the documentation of it, and is compared with what steps declare."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

import refsynth
from refsynth.core import step as steps
from refsynth.core.code import closure_of
from refsynth.core.config import RunConfig
from refsynth.core.drafting import EndpointReference, FolderReference
from refsynth.core.files import read_jsonl
from refsynth.core.run import RunFolder
from refsynth.core.sections import Section
from refsynth.core.settings import settings_of
from refsynth.core.step import StepSpec, home_of
from refsynth.core.steps import STEPS
from refsynth.learning.context import learners_key
from refsynth.learning.rows import read_rows
from refsynth.models.reference import EchoGenerator
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.synthesis.build import make_generator
from refsynth.synthesis.draft_writer import DraftWriter
from refsynth.synthesis.drafts import screen_drafts, write_drafts
from refsynth.synthesis.reinforcement import supervised as imitating
from refsynth.synthesis.reinforcement.rewarder import Rewarder
from tests.support.jobs import job_of
from tests.support.openai_server import OpenAIServer
from tests.support.pools import pool_task
from tests.support.rewards import REINFORCE, by_length
from tests.support.runs import make_task
from tests.support.tiers import make_run

SERVER = {"endpoint": "http://127.0.0.1:1", "model": "m"}
RICH = {
    "language": "en",
    "labels": {"a": "one", "b": "two"},
    "data": {"train": "t.csv", "more": "m.jsonl", "pool": "p.txt", "test": "e.csv"},
    "reference": SERVER,
    "learners": ["tfidf", "finetune", "lora", "soup", "average", "prompt"],
    "training": {"validation": 0.2},
    "search": {"minutes": 10},
    "compress": {"tiers": "cascade"},
}
"""A task in which every section makes a difference."""

PAIRS = {"task": "pairs", "learners": ["tfidf", "finetune"]}
SETS = {"task": "multilabel", "learners": ["tfidf", "finetune"], "selftrain": {"per_class": 0}}
FOLDER = {"reference": {"folder": "here"}}
WEIGHTS = {"reference": "embedded"}

READ = {"rows", "none", "pool", "test"}
TAUGHT = {"judge", "fit", "compared"}
FITTED = {"gate", "form_fold", *TAUGHT}
SELECTED = {"gate", "form_fold", "select"}
ASKED = {"drafts", "screen", "judged", "policy", "pretrain_reference", *FITTED}
SEEDED = {"rows", "none", "pool", "pretrain_encoder", "pretrain_reference", "topics", "policy", "drafts", *FITTED, "select",
          "smaller_form", "forms", "student", "tiers"}  # fmt: skip
TASKED = {"rows", "pool", "topics", "policy", "drafts", "screen", "judged", *FITTED, "select", "smaller_form", "forms",
          "bundle", "student", "tiers", "test"}  # fmt: skip
NAMED = (TASKED - {"pool", "student", "tiers"}) | {"encoder"}
WRITTEN = {"drafts", "policy"}

LEAVES = {
    # leaf: (another value, the steps that are made again directly, what the task needs for it beside RICH)
    "task": ("multilabel", TASKED | {"rows", "test"}, {"learners": ["tfidf", "finetune"], "selftrain": {"per_class": 0}}),
    "language": ("de", {"rows"}),
    "labels": ({"b": "two", "a": "one"}, NAMED),  # their order is that of answers
    "data.train": ("u.csv", {"rows"}),
    "data.more": ("n.jsonl", {"rows"}),
    "data.pool": ("q.txt", {"pool"}),
    "data.test": ("f.csv", {"test"}),
    "data.none": ("o.csv", {"none"}),  # what is in it comes into the keys of others by content
    "data.columns.text": ("body", READ),
    "data.columns.label": ("class", READ),
    "data.columns.pair": ("other", READ, PAIRS),
    "data.columns.id": ("number", READ),
    "data.columns.weight": ("counts", READ),
    "data.columns.tags": (["O", "B-x"], READ),
    "data.columns.offsets": ("utf16", READ),
    "data.delimiter": (";", READ),
    "data.encoding": ("latin-1", READ),
    "data.quoting": ("none", READ),
    "data.sheet": ("Inbox", READ),
    "data.merge": (True, {"rows", "test"}),
    "data.separator": (";", {"rows", "test"}, SETS),
    "reference": ("echo", ASKED),
    "reference.endpoint": ("http://127.0.0.1:2", ASKED),
    "reference.model": ("n", ASKED),
    "reference.api": ("chat", ASKED),
    "reference.key_env": ("REFSYNTH_OTHER", set()),
    "reference.concurrency": (9, set()),
    "reference.timeout": (9.0, set()),
    "reference.retries": (0, set()),
    "reference.max_requests": (99, {"drafts"}),  # at the limit drafting stops with what it has; all else fails
    "reference.folder": ("there", ASKED, FOLDER),  # by what is in it
    "synthesis.drafts": (700, {"drafts"}),
    "synthesis.shots": (2, WRITTEN),
    "synthesis.per_prompt": (8, {"drafts"}),
    "synthesis.rounds": (3, set()),  # a round is a step of its own
    "synthesis.minutes": (9.0, set()),
    "synthesis.ways": (["styles"], WRITTEN),
    "synthesis.temperature": (0.7, WRITTEN),
    "synthesis.top_p": (0.9, WRITTEN),
    "synthesis.max_tokens": (32, WRITTEN),
    "synthesis.augment": (["noise"], {"drafts"}),
    "synthesis.copies": (2, {"drafts"}),
    "reinforce.iterations": (9, {"policy"}, WEIGHTS),
    "reinforce.policy": ("raft", {"policy"}, WEIGHTS),
    **{f"reinforce.{name}": (value, {"policy"}) for name, value in
       {"prompts": 9, "group_size": 9, "learning_rate": 0.1, "batch_size": 9, "kl": 0.1, "minutes": 9.0}.items()},
    **{f"filter.{name}": (value, SELECTED) for name, value in
       {"agreement": 0.6, "influence": 0.1, "targets": "judge"}.items()},
    "filter.scores": ({"likelihood": 0.1}, {"screen"}),
    "selftrain.per_class": (9, SELECTED),
    "selftrain.confidence": (0.9, SELECTED),
    "pretrain.encoder": (9.0, {"pretrain_encoder"}),
    "pretrain.use": ("always", set()),  # what is made of the measurement; encoders go by their weights
    "pretrain.reference": (9.0, {"pretrain_reference"}, FOLDER),
    "learners": (["tfidf", "finetune", "soup", "average", "prompt"], FITTED),
    **{f"training.{name}": (value, FITTED) for name, value in
       {"max_tokens": 64, "windows": "cut",
        "epochs": 9, "batch_size": 8, "learning_rate": 0.1, "warmup_ratio": 0.2, "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True, "precision": "float32",
        "validation": 0.3, "patience": 9, "rank": 9, "virtual_tokens": 9, "bottleneck": 9, "dropout": 0.2, "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "mixup": 0.1, "adversarial": 0.1, "rdrop": 0.1, "averaging": "ema"}.items()},
    "search.minutes": (20, FITTED),
    "search.trials": (9, FITTED),
    **{f"ensemble.{name}": (value, FITTED) for name, value in
       {"folds": 5, "soup": "uniform", "seeds": 2}.items()},
    "ensemble.teacher": ("stacking", FITTED, {"search": {"minutes": 0}}),
    **{f"prompting.{name}": (value, FITTED) for name, value in
       {"method": "direct", "shots": 2, "examples": "nearest", "calibration": "none", "proposals": 2,
        "templates": "t.yaml"}.items()},
    "gate.folds": (5, {"rows", *FITTED}),  # these by the minutes of a search alone, which there is in this task
    "gate.repeats": (2, FITTED),  # the same
    "compress.tiers": ("static", {"tiers"}),
    "compress.disagreement": (0.1, {"tiers"}),
    "compress.delta": (0.2, {"tiers"}),
    "unsure.accuracy": (0.8, set()),  # chooses a threshold, which the bundle's key holds
    "contract.p50_ms": (9.0, set()),  # chooses among what steps have measured
    "contract.size_mb": (9.0, set()),
    "contract.keep": (0.9, set()),
    "track": (["wandb"], set()),
    "device": ("cpu", set()),  # as another processor would: the same figures but for rounding
    "seed": (9, SEEDED),
}  # fmt: skip

PLAIN = {
    "labels": RICH["labels"],
    "data": {"train": "t.csv"},
    "reference": SERVER,
    "learners": ["tfidf", "frozen"],
}
"""A task in which these make no difference:"""

IDLE = (
    "training",
    "ensemble",
    "prompting",
    "selftrain",
    "search.trials",
    "gate.repeats",
    "compress.disagreement",
    "compress.delta",
)


def leaves(section: type[Section], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        key, kind = f"{prefix}{name}", field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found += leaves(kind, f"{key}.")
        else:
            found.append(key)
            branches = [each for each in get_args(kind) if isinstance(each, type) and issubclass(each, Section)]
            found += [leaf for branch in branches for leaf in leaves(branch, f"{key}.")]
    return found


def config_of(base, *, leaf=None, value=None):
    tree = json.loads(json.dumps(base))
    if leaf is not None:
        *path, last = leaf.split(".")
        place = tree
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return RunConfig.parse(tree)


def directly(config):
    """Return what each step depends on by its declaration; a file stands for its content."""
    tree, files = settings_of(config), config.model_dump(mode="json")

    def content(name):
        value = files
        for part in {"reference.content": "reference.folder"}.get(name, name).split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    return {
        name: json.dumps([spec.settings(tree), {each: content(each) for each in spec.extra if "." in each}])
        for name, spec in STEPS.items()
    }


def changed(base, leaf, value):
    before, after = directly(config_of(base)), directly(config_of(base, leaf=leaf, value=value))
    return {name for name in STEPS if before[name] != after[name]}


def test_every_leaf_of_the_configuration_has_its_row():
    assert set(leaves(RunConfig)) == set(LEAVES)
    assert {EndpointReference, FolderReference} <= set(get_args(RunConfig.model_fields["reference"].annotation))


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_changes_the_keys_of_what_it_touches_and_no_other(leaf):
    value, touched, *needed = LEAVES[leaf]
    assert changed({**RICH, **(needed[0] if needed else {})}, leaf, value) == touched


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf.startswith(IDLE)])
def test_what_nothing_reads_changes_no_key(leaf):
    if leaf == "prompting.templates":
        content = learners_key(config_of(PLAIN, leaf=leaf, value="not-there.yaml"), "en")
        assert content == dict.fromkeys(["learners.outside", "reference.content", leaf])
    else:
        assert changed(PLAIN, leaf, LEAVES[leaf][0]) == set()


def test_without_drafts_their_filter_changes_no_key():
    assert changed({**PLAIN, "synthesis": {"drafts": 0}}, "filter.agreement", 0.9) == set()
    assert changed(PLAIN, "filter.agreement", 0.9) == SELECTED


def test_a_spec_names_what_there_is():
    tree = settings_of(config_of(RICH))
    for spec in STEPS.values():
        spec.settings(tree)  # or it names no section
        assert not set(spec.ignored) - set(leaves(RunConfig)), spec.name
        assert not {*spec.inputs, *spec.optional} - {*STEPS, "form"}, spec.name
    with pytest.raises(KeyError):
        StepSpec("x", ("gait",)).settings(tree)
    with pytest.raises(KeyError):
        StepSpec("x", ("gate.fold",)).settings(tree)


def test_the_module_beside_a_step_makes_it():
    root = Path(refsynth.__file__).parent
    table = (root / "core" / "steps.py").read_text("utf-8")
    told = re.findall(r'_step\("(\w+)".*?\),  # (\S+\.py)$', table, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in told] == list(STEPS)
    for name, module in told:
        code = (root / module).read_text("utf-8")
        assert f'"{name}"' in code and "STEPS[" in code, module


def test_a_value_that_is_missing_or_unknown_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    spec = StepSpec("one", extra=("texts",), optional=("two",))
    for given in ({"extra": {}}, {"extra": {"texts": "", "more": ""}}, {"extra": {"texts": ""}, "using": ("three",)}):
        with pytest.raises(ValueError, match="step one"):
            folder.step(spec, lambda out: None, config={}, **given)


def test_a_step_is_made_again_when_an_input_has_another_content(tmp_path):
    folder, made = RunFolder(tmp_path), []

    def write(text):
        return lambda out: made.append(text) or (out / "file").write_text(text)

    one, two = StepSpec("one", extra=("key",)), StepSpec("two", inputs=("one",), optional=("zero",))
    for key, text in ((1, "a"), (2, "a"), (3, "b")):
        folder.step(one, write(text), config={}, extra={"key": key})
        folder.step(two, write("two"), config={})
    assert made == ["a", "two", "a", "b", "two"]  # the same content from another key changes nothing further on
    folder.step(StepSpec("zero"), write("zero"), config={})
    folder.step(two, write("two"), config={})
    assert made[5:] == ["zero"]  # what is there and was not read is no input
    folder.step(two, write("with zero"), config={}, using=("zero",))
    assert made[6:] == ["with zero"]


def test_home_of_a_partial_call_and_a_method_is_where_they_were_written():
    assert home_of(partial(partial(home_of, None))) == "refsynth.core.step"
    assert home_of(STEPS["rows"].settings) == "refsynth.core.step"


def test_the_steps_that_write_drafts_run_no_training_code():
    closure = closure_of("refsynth.synthesis.drafts", *STEPS["drafts"].code, excluded=STEPS["drafts"].excluded)
    assert [name for name in closure if name.startswith("refsynth.learning")] == ["refsynth.learning.rows"]  # which reads them
    assert "refsynth.synthesis.prompts" in closure and "refsynth.models.reference.endpoint" in closure


class Counting(EchoGenerator):
    asked: list[int] = []  # noqa: RUF012

    def generate(self, prompts, *, n, seed):
        self.asked.append(len(prompts))
        return super().generate(prompts, n=n, seed=seed)


def test_drafts_that_other_code_makes_again_are_not_asked_for_again(tmp_path, monkeypatch):
    task, folder = make_task(tmp_path / "data", synthesis={"drafts": 24, "per_prompt": 4}), RunFolder(tmp_path / "out")
    rows = read_rows(task, folder, skip_bad=False)
    author = DraftWriter("", "", Counting, task.config.synthesis, rows.examples, rows.folds)
    Counting.asked.clear()
    first = write_drafts(job_of(task, rows, folder), [author], topics={})
    assert sum(Counting.asked) == 6
    monkeypatch.setattr(steps, "code_of", lambda *modules, excluded: "other code")
    second = write_drafts(job_of(task, rows, folder), [author], topics={})
    assert second.drafts == first.drafts and sum(Counting.asked) == 6
    made = [event["name"] for event in read_jsonl(folder.path / "events.jsonl")]
    assert made.count("drafts") == 2


def test_scores_that_an_endpoint_gave_are_not_asked_for_again_either(tmp_path, monkeypatch):
    with OpenAIServer(EchoGenerator()) as server:
        changes = {"reference": {"endpoint": server.base, "model": "echo"}, "filter": {"scores": {"likelihood": -9.0}}}
        task = make_task(tmp_path / "data", synthesis={"drafts": 24, "per_prompt": 4}, **changes)
        folder = RunFolder(tmp_path / "out")
        rows = read_rows(task, folder, skip_bad=False)

        def make():
            return make_generator(task.config, ModelStore(tmp_path), folder.path)

        author = DraftWriter("", "", make, task.config.synthesis, rows.examples, rows.folds)
        written = write_drafts(job_of(task, rows, folder), [author], topics={})
        drafted = len(server.requests)
        first = screen_drafts(job_of(task, rows, folder), written, make, reference="")
        scored = len(server.requests)
        assert scored > drafted
        monkeypatch.setattr(steps, "code_of", lambda *modules, excluded: "other code")
        assert screen_drafts(job_of(task, rows, folder), written, make, reference="") == first
        assert len(server.requests) == scored
    made = [event["name"] for event in read_jsonl(folder.path / "events.jsonl")]
    assert made.count("screen") == 2


@pytest.fixture
def ran(monkeypatch):
    """The modules of refsynth whose code ran in each step, and those whose code is in its key."""
    found = {}
    plain = RunFolder.step

    def watched(self, spec, make, **given):
        seen, keyed = found.setdefault(spec.name, (set(), set()))
        keyed.update(closure_of(home_of(make), *spec.code, excluded=spec.excluded))

        def note(frame, event, argument):
            seen.add(frame.f_globals.get("__name__", ""))  # no tracer for what happens in the call: quick

        def traced(out):
            sys.settrace(note)
            try:
                make(out)
            finally:
                sys.settrace(None)

        traced.__module__ = home_of(make)
        return plain(self, spec, traced, **given)

    monkeypatch.setattr(RunFolder, "step", watched)
    return found


HANDING_OVER = {"refsynth.core.observe", "refsynth.learning.job", "refsynth.synthesis.reinforcement.policies"}
"""Whose code tells people, or returns what other modules have made; that of `policies` is in the keys of its authors."""


def check(ran, *expected):
    assert set(expected) <= set(ran)
    unkeyed = {}
    for step, (seen, keyed) in ran.items():
        if rest := {name for name in seen if name.startswith("refsynth.")} - keyed - HANDING_OVER:
            unkeyed[step] = rest
    assert not unkeyed


def test_no_step_runs_code_that_is_not_in_its_key(tmp_path, masked_store, ran):
    task = pool_task(
        tmp_path / "data",
        pretrain={"encoder": 0.01, "use": "always"},
        synthesis={"drafts": 24, "per_prompt": 4, "ways": ["examples", "topics"], "augment": ["noise"]},
        filter={"targets": "ensemble", "scores": {"likelihood": -9.0}, "influence": 0.1},
        selftrain={"per_class": 5},
        gate={"folds": 2},
    )
    run(task, tmp_path / "out", store=masked_store)
    made = (
        "rows",
        "pool",
        "pretrain_encoder",
        "topics",
        "drafts",
        "screen",
        "judged",
        "gate",
        "fit",
        "bundle",
        "test",
        "coverage",
    )
    check(ran, *made)


def test_no_step_that_teaches_the_reference_does(tmp_path, tiny_cache, tiny_causal, ran, monkeypatch):
    monkeypatch.setattr(imitating, "EPOCHS", 1)
    monkeypatch.setattr(imitating, "TURN", 32)
    monkeypatch.setattr(Rewarder, "__call__", by_length)
    task = pool_task(
        tmp_path / "data",
        reference={"folder": str(tiny_causal)},
        pretrain={"reference": 0.01},
        reinforce={"iterations": 1, "prompts": 2, "group_size": 2, "learning_rate": 1e-2},
        gate={"folds": 4},
        synthesis={"drafts": 8, "per_prompt": 4, "max_tokens": 8, "shots": 1},
        learners=["tfidf"],
    )
    run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    check(ran, "pretrain_reference", "policy", "drafts")


def test_no_bandit_does(tmp_path, tiny_cache, ran):
    settings = {"iterations": 2, "policy": "bandit", "prompts": 4, "group_size": 4}
    run(make_task(tmp_path / "data", reinforce=settings, **REINFORCE), tmp_path / "out", store=ModelStore(tiny_cache))
    check(ran, "policy", "drafts")


@pytest.mark.slow
def test_no_step_that_makes_what_ships_does(tmp_path, tiny_cache, ran):
    make_run(tmp_path, tiny_cache, "cascade", pool=300, contract={"keep": 0.01})
    check(ran, "student", "tiers", "forms", "form_fold", "bundle", "test")
