"""The configuration as steps depend on it: without what nothing reads, so that a change of that throws nothing away."""

from __future__ import annotations

from typing import Any

from refsynth.core.config import RunConfig
from refsynth.core.learners import LEARNERS
from refsynth.core.references import settings_of_reference
from refsynth.core.registry import code_outside
from refsynth.core.scorers import scorers_of


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the tree of a configuration as JSON values; a section is None where nothing reads it.

    A kind of task from another package stands with the hash of its code. Labels are in a list, since their order is that of a
    model's answers. `search` has the minutes of one search, which also depend on how many there are; `prompting` has the
    reference that is asked. `screen` has those of `filter.scores` that are asked once, `filter` those asked in each fold.
    """
    tree, learners = config.model_dump(mode="json"), set(config.learners)
    tree["labels"] = list(tree["labels"].items())
    if brought := code_outside(config.kind.answers):
        tree["task"] = [config.task, brought]
    tree["reference"] = settings_of_reference(config.reference, tree["reference"])
    asked = {key: value for key, value in tree["prompting"].items() if key != "templates"}
    tree["prompting"] = {**asked, "reference": _without_limits(config, tree["reference"])}
    once = [spec.name for spec, _ in scorers_of(config.filter) if spec.reads != "rows"]  # the others are asked in each fold
    scores = tree["filter"]["scores"]
    tree["screen"] = {name: scores[name] for name in sorted(once)}
    tree["filter"]["scores"] = {name: scores[name] for name in sorted(set(scores) - set(once))}
    tree["search"] = {"minutes": minutes_each(config), "trials": config.search.trials}
    drafts = config.synthesis.drafts or config.synthesis.augment or config.data.pool is not None
    idle = {
        "filter": not drafts,
        "screen": not drafts,
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


def _without_limits(config: RunConfig, reference: Any) -> Any:
    """Return the settings of the reference for one that is asked for answers alone: at a limit these fail, and do not change."""
    limits = config.writer.limits
    return {key: each for key, each in reference.items() if key not in limits} if isinstance(reference, dict) else reference


def minutes_each(config: RunConfig) -> float:
    """Return the minutes of one search: there is one for each learner in each fold of the gate, and in the final fit."""
    searches = sum(LEARNERS[name].searched for name in config.learners) * (config.gate.folds * config.gate.repeats + 1)
    return config.search.minutes / searches if searches else 0.0
