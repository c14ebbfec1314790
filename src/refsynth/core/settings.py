"""The configuration as steps depend on it: without what nothing reads, so that a change of that throws nothing away."""

from __future__ import annotations

from typing import Any

from refsynth.core.config import RunConfig
from refsynth.core.learners import LEARNERS

MECHANICS = ("key_env", "concurrency", "timeout", "retries", "folder")
"""Keys of `reference` that say how it is reached, not what it answers: of a folder that is decided by what is in it."""


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the tree of a configuration as JSON values; a section is None where nothing reads it.

    Labels are in a list, since their order is that of a model's answers. `search` has the minutes of one search, which also
    depend on how many there are; `prompting` has the reference that is asked.
    """
    tree, learners = config.model_dump(mode="json"), set(config.learners)
    tree["labels"] = list(tree["labels"].items())
    if isinstance(tree["reference"], dict):
        tree["reference"] = {key: value for key, value in tree["reference"].items() if key not in MECHANICS}
        if tree["reference"].get("api") == "auto":  # as it was before there was a choice
            del tree["reference"]["api"]
    asked = {key: value for key, value in tree["prompting"].items() if key != "templates"}
    tree["prompting"] = {**asked, "reference": tree["reference"]}
    if isinstance(tree["reference"], dict):  # at the limit an answer fails; it does not become another
        tree["prompting"]["reference"] = {key: each for key, each in tree["reference"].items() if key != "max_requests"}
    tree["search"] = {"minutes": minutes_each(config), "trials": config.search.trials}
    drafts = config.synthesis.drafts or config.synthesis.augment or config.data.pool is not None
    idle = {
        "filter": not drafts,
        "selftrain": config.data.pool is None,
        "training": not any(LEARNERS[name].stops for name in learners),
        "search": not config.search.minutes,
        "ensemble": "soup" not in learners and not any(LEARNERS[name].joins for name in learners),
        "prompting": "prompt" not in learners,
    }
    tree |= {section: None for section, unread in idle.items() if unread}
    if config.compress.tiers != "cascade":
        tree["compress"] = {"tiers": config.compress.tiers}
    return tree


def minutes_each(config: RunConfig) -> float:
    """Return the minutes of one search: there is one for each learner in each fold of the gate, and in the final fit."""
    searches = sum(LEARNERS[name].searched for name in config.learners) * (config.gate.folds * config.gate.repeats + 1)
    return config.search.minutes / searches if searches else 0.0
