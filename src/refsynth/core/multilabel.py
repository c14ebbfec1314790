"""What a multi-label task cannot have: options that set one label against the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.core.kinds import TASK_KINDS
from refsynth.core.labelset import JOINER, NONE, unfit_name

SEPARATOR = "|"
"""The default separator of labels in a cell."""

ONE_LABEL_ONLY: Mapping[str, str] = {
    "synthesis.rounds": "a round writes where one label is taken for another",
    "reinforce.iterations": "its reward is the loss of one label against the others",
    "filter.targets": "a judge gives shares of one label against the others",
    "training.rdrop": "it is the divergence of one label's probability against the others'",
}
"""Options that need one label for each text, and why."""


def problem_of(parts: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a configuration for a multi-label task, by its fields, and what to do; None if nothing is."""
    task, labels, data = parts["task"], parts["labels"], parts["data"]
    if not TASK_KINDS[task].several:
        if data.separator is not None:
            return f"data.separator divides the labels of one text, but task is {task}; write task: multilabel"
        return None
    between = data.separator or SEPARATOR
    for name in labels:
        if unfit_name(name):
            return f"the label '{name}' cannot be one of several: found '{JOINER}', '{NONE}' or space at an end; rename it"
        if between in name:
            return f"data.separator: found '{between}' within the label '{name}'; name one that stands in no label"
    return _unable(parts) or out_of_place(parts, ONE_LABEL_ONLY, "tasks of one label")


def _unable(parts: Mapping[str, Any]) -> str | None:
    if parts["data"].train is None:
        return f"task: {parts['task']} needs labeled rows (data.train): their names do not say which labels go together"
    if "contrast" in parts["synthesis"].ways:
        return "synthesis.ways: contrast asks for one label against another, and here a text has several; take it out"
    if parts["data"].pool is not None and parts["selftrain"].per_class:
        return "data.pool: self-training compares one label with the others; write selftrain: {per_class: 0}"
    return None


def out_of_place(parts: Mapping[str, Any], reasons: Mapping[str, str], meant: str) -> str | None:
    """Return what is wrong if an option is set that a kind of task cannot have; `meant` is what the option is for."""
    for key, why in reasons.items():
        section, _, name = key.partition(".")
        if getattr(parts[section], name) != type(parts[section]).model_fields[name].default:
            return f"{key} is for {meant}: {why}; take it out"
    return None
