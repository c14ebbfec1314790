"""Zero- and few-shot classification by the reference: which label is likeliest after a text, or which text after a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsynth.core.protocols import Generator
from refsynth.core.types import FloatArray, Prompt
from refsynth.data.quote import neutralize, shorten
from refsynth.learning.prompting.examples import Pair, Shown
from refsynth.learning.prompting.templates import Method, Template

SHARPNESS = 10.0
"""Scores are log P per token; a text has tens of tokens, far from independent. A temperature is fitted later."""


@dataclass(frozen=True)
class Asking:
    """How the reference is asked.

    Attributes:
        method: what is scored.
        template: how a text and a label are put.
        verbalizers: what stands for each of K labels.
        instruction: a line above everything; empty for none.
    """

    method: Method
    template: Template
    verbalizers: tuple[str, ...]
    instruction: str = ""

    def head(self, examples: Sequence[Pair]) -> str:
        """Return what stands above the text: the instruction, and examples with their labels."""
        parts = [self.instruction] if self.instruction else []
        parts += [self.template.example(self.method, _quoted(text), self.verbalizers[k]) for text, k in examples]
        return "".join(part + "\n\n" for part in parts)


def score_labels(generator: Generator, asking: Asking, texts: Sequence[str], shown: Shown) -> FloatArray:
    """Return mean log P per token of each label after each text, or of each text after each label: [N, K], in nats.

    Args:
        generator: the reference.
        asking: how it is asked.
        texts: N texts.
        shown: chooses the examples that stand above each.
    """
    form = asking.template.form(asking.method)
    prompts: list[Prompt] = []
    scored: list[str] = []
    for text, examples in zip(map(_quoted, texts), shown.before(texts), strict=True):
        head = asking.head(examples)
        for words in asking.verbalizers:
            given, wanted = (text, words) if asking.method == "direct" else (words, text)
            prompts.append(Prompt(head + form.ask(given), ""))
            scored.append(wanted)
    flat: FloatArray = np.asarray(generator.score(prompts, scored), float).reshape(len(texts), len(asking.verbalizers))
    return np.nan_to_num(flat, nan=0.0)  # without tokens there is nothing that could speak for a label


def _quoted(text: str) -> str:
    return shorten(neutralize(text)) or "-"


@dataclass(frozen=True)
class PromptPredictor:
    """A predictor that asks the reference. `bias` [K] is its taste for labels: what is said of one text depends on no other."""

    labels: tuple[str, ...]
    generator: Generator
    asking: Asking
    shown: Shown
    bias: FloatArray

    def to_json(self) -> dict[str, Any]:
        """Return what it was fitted to, as JSON-ready values; the examples come from the rows again."""
        asking = self.asking
        words = {"verbalizers": asking.verbalizers, "instruction": asking.instruction, "bias": self.bias.tolist()}
        return {"method": asking.method, "template": asking.template.model_dump(), **words}

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return calibrated scores [N, K], sharpened."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        scores: FloatArray = SHARPNESS * (score_labels(self.generator, self.asking, texts, self.shown) - self.bias)
        return scores
