"""What a token-classification task cannot have: options that change texts, or that work only on labels of whole texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.core.kinds import TASK_KINDS
from refsynth.core.multilabel import out_of_place
from refsynth.core.spans import unfit_name

LABELS_OF_TEXTS_ONLY: Mapping[str, str] = {
    "pretrain.encoder": "whether it helped is measured on labels of whole texts",
    "pretrain.reference": "it learns from texts without marks, and drafts need marks",
    "search.minutes": "settings are compared by the loss on labels of whole texts",
    "synthesis.augment": "a changed text loses its marks",
    "synthesis.rounds": "a round writes where one label is taken for another",
    "reinforce.iterations": "its reward is the loss on labels of whole texts",
    "filter.targets": "a judge gives shares of the labels of a whole text",
    "training.mixup": "it mixes whole texts",
    "training.adversarial": "it is written for labels of whole texts",
    "training.rdrop": "it compares two passes over a whole text",
}
"""Options that need labels of whole texts, and why."""

WAYS = {"examples", "styles"}
"""Ways whose prompts show marks. The other ways ask for one label against another, or for a paraphrase."""


def problem_of(parts: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a configuration for a token-classification task, by its fields, and what to do; else None."""
    if not TASK_KINDS[parts["task"]].words:
        if len(parts["labels"]) < 2:
            return f"labels: task {parts['task']} needs at least 2 labels; to find one kind of words in texts write task: tokens"
        return None
    if parts["data"].train is None:
        why = "a label's name does not say where its words begin and end"
        return f"task: {parts['task']} needs labeled rows (data.train): {why}"
    if (name := next(filter(unfit_name, parts["labels"]), None)) is not None:
        return f"the label '{name}' cannot stand in [words](label): found a space, a bracket, a colon or a backslash; rename it"
    if way := next((way for way in parts["synthesis"].ways if way not in WAYS), None):
        return f"synthesis.ways: {way} is for labels of whole texts, and here words are labeled; take examples or styles"
    if problem := out_of_place(parts, LABELS_OF_TEXTS_ONLY, "labels of whole texts"):
        return problem
    if parts["data"].pool is not None and parts["selftrain"].per_class:
        return "data.pool: self-training labels whole texts; write selftrain: {per_class: 0}"
    return None
