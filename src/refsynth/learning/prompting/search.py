"""Prompt search: the reference proposes parts of the prompt, and real rows decide among them.

The reference proposes words for a label after texts of that label, and an instruction after texts with their labels (Zhou et al.,
2023, "Large Language Models Are Human-Level Prompt Engineers", section 3). The search changes one part at a time to lower the
calibrated log loss on real rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from refsynth.core.protocols import Generator
from refsynth.core.types import FloatArray, IntArray, Prompt
from refsynth.data.quote import neutralize, shorten
from refsynth.kinds.metrics import log_loss, softmax
from refsynth.learning.prompting.calibrate import taste
from refsynth.learning.prompting.classify import SHARPNESS, Asking, score_labels
from refsynth.learning.prompting.examples import Shown
from refsynth.learning.prompting.templates import Template

SHOWN = 4
"""Texts in a prompt for a proposal."""
WORDS = 12
"""The most words of a verbalizer."""
PASSES = 3
"""The most passes over the verbalizers of all labels."""

_COMMON = {"en": "What these texts have in common is that they are about", "zh": "这些文本的共同点是，它们都关于"}
_REQUEST = {"en": "The instruction was to read each text and to say", "zh": "当时的要求是：阅读每条文本，并说出"}
_INSTRUCTION = {"en": "Read each text and say {rest}", "zh": "阅读每条文本，并说出{rest}"}


@dataclass(frozen=True)
class SearchRows:
    """The real rows of a search: texts [N] and their classes [N]."""

    texts: Sequence[str]
    classes: IntArray


def propose_verbalizers(generator: Generator, rows: SearchRows, k: int, *, n: int, language: str, seed: int) -> list[list[str]]:
    """Return up to `n` different verbalizers for each of `k` labels."""
    prompts = [_list(rows, label, _COMMON.get(language, _COMMON["en"]), seed=seed) for label in range(k)]
    completions = generator.generate(prompts, n=n, seed=seed)
    return [list(dict.fromkeys(words for one in row if (words := _phrase(one.text)))) for row in completions]


def propose_instructions(
    generator: Generator, rows: SearchRows, verbalizers: Sequence[str], *, n: int, language: str, seed: int
) -> list[str]:
    """Return up to `n` different instructions that fit texts with their labels."""
    places = np.random.default_rng(seed).permutation(len(rows.texts))[: 2 * SHOWN]
    shown = "".join(f"{_line(rows.texts[i])}\n-> {verbalizers[rows.classes[i]]}\n\n" for i in places)
    (row,) = generator.generate([Prompt(shown + _REQUEST.get(language, _REQUEST["en"]), "")], n=n, seed=seed)
    form = _INSTRUCTION.get(language, _INSTRUCTION["en"])
    return list(dict.fromkeys(form.format(rest=words) for one in row if (words := _phrase(one.text))))


def search(
    generator: Generator,
    start: Asking,
    rows: SearchRows,
    shown: Shown,
    *,
    templates: Sequence[Template],
    instructions: Sequence[str],
    verbalizers: Sequence[Sequence[str]],
) -> Asking:
    """Return the prompt with the least log loss on the rows that a search over one part at a time finds.

    The search tries the templates, the instructions, and the verbalizers of each label. It returns `start` if nothing is better.
    """

    def loss(asking: Asking) -> float:
        return loss_of(score_labels(generator, asking, rows.texts, shown), rows.classes)

    best, least = start, loss(start)
    values: list[Template | str] = [*templates, *instructions]
    for value in values:
        asking = replace(best, instruction=value) if isinstance(value, str) else replace(best, template=value)
        if asking != best and (value_loss := loss(asking)) < least:
            best, least = asking, value_loss
    return _with_verbalizers(generator, best, rows, shown, verbalizers)


def _with_verbalizers(
    generator: Generator, asking: Asking, rows: SearchRows, shown: Shown, verbalizers: Sequence[Sequence[str]]
) -> Asking:
    """Change the words of one label at a time until no change lowers the loss. Each option is scored once."""
    options = [
        [own, *(word for word in others if word != own)] for own, others in zip(asking.verbalizers, verbalizers, strict=True)
    ]
    scored = []
    for at in range(max(map(len, options))):
        words = tuple(row[min(at, len(row) - 1)] for row in options)
        scored.append(score_labels(generator, replace(asking, verbalizers=words), rows.texts, shown))
    chosen = [0] * len(options)
    table = scored[0].copy()
    least = loss_of(table, rows.classes)
    for _ in range(PASSES):
        before = list(chosen)
        for label, label_options in enumerate(options):
            for at in range(len(label_options)):
                trial = table.copy()
                trial[:, label] = scored[at][:, label]
                if (loss := loss_of(trial, rows.classes)) < least:
                    table, least, chosen[label] = trial, loss, at
        if chosen == before:
            break
    return replace(asking, verbalizers=tuple(row[at] for row, at in zip(options, chosen, strict=True)))


def loss_of(scores: FloatArray, classes: IntArray) -> float:
    """Return the log loss in nats of scores [N, K], calibrated on the same rows."""
    return log_loss(classes, softmax(SHARPNESS * (scores - taste(scores))))


def _list(rows: SearchRows, label: int, question: str, *, seed: int) -> Prompt:
    mine = np.flatnonzero(rows.classes == label)
    places = np.random.default_rng([seed, label]).permutation(mine)[:SHOWN]
    return Prompt("".join(f"- {_line(rows.texts[i])}\n" for i in places) + "\n" + question, "")


def _line(text: str) -> str:
    return shorten(neutralize(text))


def _phrase(text: str) -> str:
    """Return the first clause of a completion; empty if it is longer than `WORDS` words, or has no letter or digit."""
    head = neutralize(text.strip().split("\n", 1)[0]).split(". ")[0].rstrip(" .。:;,，")
    words = head.split()
    fits = len(words) <= WORDS and len(head) <= 8 * WORDS
    return head if fits and any(character.isalnum() for character in head) else ""
