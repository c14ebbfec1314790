"""The configuration as steps depend on it: without the sections that nothing reads, so that changing those repeats no step."""

from __future__ import annotations

from typing import Any

from refsynth.core.config import RunConfig
from refsynth.core.learners import LEARNERS
from refsynth.core.references import settings_of_reference
from refsynth.core.registry import code_outside
from refsynth.core.scorers import scorers_of


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the tree of a configuration as JSON values; a section that nothing reads is None.

    It differs from the configuration in these keys:
    - `task`: if the kind is from another package, it has the hash of its code too.
    - `labels`: a list, since their order is that of a model's answers.
    - `search`: the minutes of one search, which also depend on how many searches there are.
    - `prompting`: has the reference too.
    - `screen`: the `filter.scores` that are computed once; `filter` has those that are computed in each fold.
    """
    tree, learners = config.model_dump(mode="json"), set(config.learners)
    tree["labels"] = list(tree["labels"].items())
    if brought := code_outside(config.kind.answers):
        tree["task"] = [config.task, brought]
    tree["reference"] = settings_of_reference(config.reference, tree["reference"])
    prompting = {key: value for key, value in tree["prompting"].items() if key != "templates"}
    tree["prompting"] = {**prompting, "reference": _without_limits(config, tree["reference"])}
    once = [spec.name for spec, _ in scorers_of(config.filter) if spec.reads != "rows"]
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
    """Return the settings of the reference without its limits: answers fail at a limit, but do not change with it."""
    limits = config.reference_spec.limits
    return {key: value for key, value in reference.items() if key not in limits} if isinstance(reference, dict) else reference


def minutes_each(config: RunConfig) -> float:
    """Return the minutes of one search. Each learner is searched in each fold of the gate, and in the final fit."""
    searches = sum(LEARNERS[name].searched for name in config.learners) * (config.gate.folds * config.gate.repeats + 1)
    return config.search.minutes / searches if searches else 0.0
