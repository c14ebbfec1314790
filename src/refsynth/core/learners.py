"""Learners by name: what each is, what it can learn, and what a bundle holds of it. Everything else derives from this table.

Order is preference: from the learner that is best on most tasks to the one that is worst. It decides which model judges drafts
and which learner wins a draw. The causal reference makes a bundle many times as large and slow, so it has to win clearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from refsynth.core.kinds import LabelsOf
from refsynth.core.registry import Registry

LearnerName = str
"""The name of a learner in `LEARNERS`. Another package may have added the learner."""

MethodName = Literal[
    "finetune", "head", "bitfit", "lora", "adalora", "ia3", "prefix_tuning", "p_tuning", "prompt_tuning", "houlsby"
]
"""Ways to fine-tune an encoder."""

FeaturesFrom = Literal["encoder", "reference", "text"]


@dataclass(frozen=True)
class LearnerSpec:
    """A learner.

    Attributes:
        name: in task.yaml.
        title: in the report.
        make: the function that makes it, as `module:function`. It takes a `learning.context.LearnerContext`; if the learner
            `joins` others, also these by name. It is imported when it is first used.
        doc: what is fitted, for the documents.
        ships: what a bundle holds of it; empty if no bundle does, so that it is only compared.
        unfit: kinds of labels that it cannot learn, each with the reason and what to do.
        reads: what its features come from: an encoder, the weights of the reference, or the text itself.
        prompted: whether it asks the reference how likely each label is after a text, by the templates of `prompting.templates`.
        uses_drafts: whether drafts make a difference to it.
        tuned: whether it takes gradient steps, so that validation rows decide when it stops.
        searched: whether its hyper-parameters can be searched for.
        joins: whether it joins the other learners of the task.
        usual_shape: whether its result is an encoder of the usual shape, from which a student can start.
        small: whether what it fits is small and fast as it is, so that it is a variant beside those of another.
        always_shown: whether the report shows it whatever ships.
    """

    name: LearnerName
    title: str
    make: str
    doc: str
    ships: str = ""
    unfit: Mapping[LabelsOf, str] = field(default_factory=dict)
    reads: FeaturesFrom = "encoder"
    prompted: bool = False
    uses_drafts: bool = True
    tuned: bool = False
    searched: bool = False
    joins: bool = False
    usual_shape: bool = False
    small: bool = False
    always_shown: bool = False

    @property
    def stops(self) -> bool:
        """Whether validation rows decide when it, or one of the learners that it joins, stops."""
        return self.tuned or self.joins


_WHOLE: Mapping[LabelsOf, str] = {"words": "labels whole texts, and here words are labeled; take crf or finetune"}
_ONE: Mapping[LabelsOf, str] = {
    **_WHOLE,
    "several": "learns one label against the others, and here a text has several; take soup, which ships as well",
}
_TUNED, _ITSELF = "the tuned encoder", "the encoder as it is"


def _learner(
    name: str, title: str, doc: str, ships: str = "", unfit: Mapping[LabelsOf, str] = _WHOLE, **traits: Any
) -> LearnerSpec:
    """Return the spec of a learner of this package, whose maker has the same name."""
    return LearnerSpec(name, title, f"refsynth.learning.makers:{name}", doc, ships, unfit, **traits)


def _method(name: MethodName, title: str, doc: str, ships: str, **traits: Any) -> LearnerSpec:
    """Return the spec of a way to fine-tune an encoder; unless `traits` say otherwise, it learns all kinds of labels."""
    usual: dict[str, Any] = {"unfit": {}, "tuned": True, "searched": True, "usual_shape": True}
    return _learner(name, title, doc, ships, **usual | traits)


LEARNERS: Registry[LearnerSpec] = Registry(
    "refsynth.learners",
    LearnerSpec,
    (
        _learner("contrastive", "contrastive", "the encoder by a contrastive loss, then logistic regression", _TUNED,
                 {**_WHOLE, "several": "pulls texts of one label together, and here a text has several; take frozen or finetune"},
                 usual_shape=True),
        _method("finetune", "full fine-tuning", "all weights", _TUNED),
        _learner("soup", "model soup", "all weights, `ensemble.seeds` times; their mean ships (Wortsman et al., 2022)",
                 "the mean", tuned=True, usual_shape=True),
        _learner("distilled", "student of all learners",
                 "all weights, towards what the other learners say together (Hinton et al., 2015)", _TUNED, _ONE, joins=True),
        _method("lora", "LoRA", "low-rank changes of the query and value projections (Hu et al., 2022)", "merged"),
        _method("adalora", "AdaLoRA", "the same with ranks that go where they are of use (Zhang et al., 2023)", "merged"),
        _method("houlsby", "bottleneck adapters", "bottleneck adapters and layer norms (Houlsby et al., 2019)",
                "the encoder and the adapters", usual_shape=False),
        _method("bitfit", "BitFit", "bias vectors (Ben Zaken et al., 2022)", _TUNED),
        _method("ia3", "IA3", "scales of keys, values and feed-forward activations (Liu et al., 2022)", "merged"),
        _method("prefix_tuning", "prefix tuning", "keys and values before each text, in each layer (Li and Liang, 2021)",
                "the encoder and the prefix", usual_shape=False),
        _method("p_tuning", "P-tuning", "vectors before each text, through a small network (Liu et al., 2021)",
                "the encoder and the vectors", usual_shape=False),
        _method("prompt_tuning", "prompt tuning", "vectors before each text (Lester et al., 2021)",
                "the encoder and the vectors", usual_shape=False),
        _learner("causal_lora", "reference + LoRA", "LoRA on the reference itself, read at the last token",
                 "merged into the reference", reads="reference", tuned=True),
        _learner("frozen", "frozen encoder + LR", "logistic regression on the encoder's embeddings", _ITSELF,
                 usual_shape=True, always_shown=True),
        _method("head", "frozen encoder + head", "the head alone, by gradient steps", _ITSELF, unfit=_WHOLE),
        _learner("crf", "CRF", "a linear-chain CRF on the form of words, for `task: tokens`", "the CRF",
                 dict.fromkeys(("one", "several"), "tags words; write task: tokens, or take it out"),
                 reads="text", small=True, always_shown=True),
        _learner("tfidf", "TF-IDF + LR",
                 "logistic regression on TF-IDF of words and pairs of words; of characters where words are not spaced, or no row "
                 "has one of two letters", "TF-IDF", reads="text", small=True, always_shown=True),
        _learner("average", "average of all learners", "nothing: the mean of the other learners' probabilities",
                 joins=True, always_shown=True),
        _learner("stacking", "stack of all learners", "one weight for each of the other learners", joins=True, always_shown=True),
        _learner("prompt", "reference, prompted", "nothing: the reference is asked (docs/how-to/prompting.md)",
                 unfit={**_WHOLE, "several": "asks which one label fits, and here a text has several; take it out"},
                 reads="text", prompted=True, uses_drafts=False, always_shown=True),
    ),
)  # fmt: skip
