"""Sections of a task without effect: each is told, and a task whose sections are all read is told nothing."""

import pytest

from refsynth.core.config import RunConfig
from refsynth.learning.unused_settings import without_effect


def task(**sections):
    return RunConfig.parse({"labels": ["late", "broken"], **sections})


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"training": {"epochs": 3}, "learners": ["tfidf", "frozen"]}, "training"),
        ({"ensemble": {"folds": 3}}, "ensemble"),
        ({"prompting": {"shots": 4}}, "prompting"),
        ({"search": {"trials": 3}, "learners": ["lora"]}, "search"),
        ({"selftrain": {"per_class": 3}}, "selftrain"),
        ({"pretrain": {"encoder": 1}, "learners": ["tfidf"], "data": {"pool": "pool.txt"}}, "pretrain.encoder"),
        ({"pretrain": {"reference": 1}, "synthesis": {"drafts": 0}, "data": {"pool": "pool.txt"}}, "pretrain.reference"),
        ({"reinforce": {"iterations": 1}, "synthesis": {"drafts": 0}}, "reinforce.iterations"),
        ({"synthesis": {"drafts": 0, "rounds": 2}}, "synthesis.rounds"),
        ({"data": {"train": "a.csv", "sheet": "x"}}, "data.sheet"),
        ({"data": {"train": "a.xlsx", "delimiter": ";"}}, "data.delimiter"),
        ({"data": {"train": "a.xlsx", "test": "b.parquet", "encoding": "cp1252"}}, "data.encoding"),
        ({"data": {"train": "a.jsonl", "quoting": "none"}}, "data.quoting"),
    ],
)
def test_what_has_no_effect_is_told(sections, told):
    (line,) = without_effect(task(**sections))
    assert line.startswith(f"{told}: ") and line.endswith("no effect")


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"training": {"epochs": 3}, "learners": ["frozen", "lora"]},
        {"training": {"epochs": 3}, "learners": ["frozen", "tfidf", "soup"]},
        {"ensemble": {"folds": 3}, "learners": ["frozen", "tfidf", "stacking"]},
        {"search": {"trials": 3, "minutes": 1}, "learners": ["lora"]},
        {"selftrain": {"per_class": 3}, "data": {"pool": "pool.txt"}},
        {"pretrain": {"encoder": 1, "reference": 1}, "data": {"pool": "pool.txt"}},
        {"reinforce": {"iterations": 1}, "synthesis": {"rounds": 2}},
        {"data": {"train": "a.csv", "test": "b.xlsx", "sheet": "x", "delimiter": ";"}},
        {"data": {"train": "a.jsonl", "encoding": "cp1252"}},
        {"data": {"train": "rows", "delimiter": ";", "quoting": "none"}},
    ],
)
def test_what_has_one_is_not(sections):
    assert without_effect(task(**sections)) == []
