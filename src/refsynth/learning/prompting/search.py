"""Search for a prompt: the reference proposes, real rows decide.

What stands for a label is proposed by showing texts of it, an instruction by showing texts with their labels (Zhou et al., 2023,
"Large Language Models Are Human-Level Prompt Engineers", section 3). Among all proposals, one part at a time is changed for what
lowers the log loss on real rows most, with the taste for labels taken out.
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
"""Texts that a request for a proposal shows."""
WORDS = 12
"""The longest verbalizer."""
PASSES = 3
"""The most times that the verbalizers of all labels are gone through."""

_COMMON = {"en": "What these texts have in common is that they are about", "zh": "这些文本的共同点是，它们都关于"}
_TOLD = {"en": "The instruction was to read each text and to say", "zh": "当时的要求是：阅读每条文本，并说出"}
_INSTRUCTION = {"en": "Read each text and say {rest}", "zh": "阅读每条文本，并说出{rest}"}


@dataclass(frozen=True)
class SearchRows:
    """Real rows that decide: texts [N] and their classes [N]."""

    texts: Sequence[str]
    classes: IntArray


def propose_verbalizers(generator: Generator, rows: SearchRows, k: int, *, n: int, language: str, seed: int) -> list[list[str]]:
    """Return up to `n` different proposals of what stands for each of `k` labels."""
    prompts = [_list(rows, label, _COMMON.get(language, _COMMON["en"]), seed=seed) for label in range(k)]
    answers = generator.generate(prompts, n=n, seed=seed)
    return [list(dict.fromkeys(words for one in row if (words := _phrase(one.text)))) for row in answers]


def propose_instructions(
    generator: Generator, rows: SearchRows, verbalizers: Sequence[str], *, n: int, language: str, seed: int
) -> list[str]:
    """Return up to `n` different proposals of what was asked for, given texts and their labels."""
    places = np.random.default_rng(seed).permutation(len(rows.texts))[: 2 * SHOWN]
    shown = "".join(f"{_line(rows.texts[i])}\n-> {verbalizers[rows.classes[i]]}\n\n" for i in places)
    (row,) = generator.generate([Prompt(shown + _TOLD.get(language, _TOLD["en"]), "")], n=n, seed=seed)
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
    """Return the asking with the least log loss on the rows that is found by changing one part at a time.

    Args:
        generator: the reference.
        start: what is changed; returned as it is where nothing is better.
        rows: real rows; where `shown` shows some of them, it leaves out the text itself.
        shown: chooses the examples that stand above a text.
        templates: to choose among.
        instructions: to choose among.
        verbalizers: to choose among, for each label.
    """

    def loss(asking: Asking) -> float:
        return loss_of(score_labels(generator, asking, rows.texts, shown), rows.classes)

    best, least = start, loss(start)
    values: list[Template | str] = [*templates, *instructions]
    for value in values:
        asking = replace(best, instruction=value) if isinstance(value, str) else replace(best, template=value)
        if asking != best and (found := loss(asking)) < least:
            best, least = asking, found
    return _with_verbalizers(generator, best, rows, shown, verbalizers)


def _with_verbalizers(
    generator: Generator, asking: Asking, rows: SearchRows, shown: Shown, verbalizers: Sequence[Sequence[str]]
) -> Asking:
    """Change the words of one label at a time, until no change lowers the loss. Each is scored once."""
    options = [
        [own, *(word for word in others if word != own)] for own, others in zip(asking.verbalizers, verbalizers, strict=True)
    ]
    widest = max(map(len, options))
    scored = [
        score_labels(
            generator, replace(asking, verbalizers=tuple(row[min(at, len(row) - 1)] for row in options)), rows.texts, shown
        )
        for at in range(widest)
    ]
    chosen = [0] * len(options)
    table = scored[0].copy()
    least = loss_of(table, rows.classes)
    for _ in range(PASSES):
        before = list(chosen)
        for label, words in enumerate(options):
            for at in range(len(words)):
                trial = table.copy()
                trial[:, label] = scored[at][:, label]
                if (found := loss_of(trial, rows.classes)) < least:
                    table, least, chosen[label] = trial, found, at
        if chosen == before:
            break
    return replace(asking, verbalizers=tuple(row[at] for row, at in zip(options, chosen, strict=True)))


def loss_of(scores: FloatArray, classes: IntArray) -> float:
    """Return the log loss of scores [N, K], less the taste for labels that the rows themselves show, in nats."""
    return log_loss(classes, softmax(SHARPNESS * (scores - taste(scores))))


def _list(rows: SearchRows, label: int, question: str, *, seed: int) -> Prompt:
    mine = np.flatnonzero(rows.classes == label)
    places = np.random.default_rng([seed, label]).permutation(mine)[:SHOWN]
    return Prompt("".join(f"- {_line(rows.texts[i])}\n" for i in places) + "\n" + question, "")


def _line(text: str) -> str:
    return shorten(neutralize(text))


def _phrase(text: str) -> str:
    """Return the first clause of a completion, in at most `WORDS` words; empty where it says nothing."""
    head = neutralize(text.strip().split("\n", 1)[0]).split(". ")[0].rstrip(" .。:;,，")
    words = head.split()
    fits = len(words) <= WORDS and len(head) <= 8 * WORDS
    return head if fits and any(character.isalnum() for character in head) else ""
