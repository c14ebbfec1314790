"""Class-conditional prompts for a completion model: a list of items of one class, left open where the next one goes.

User text is data: what could be read as markup by a chat template or as the list's own structure is neutralised before it is
shown. Knows nothing of quotas or of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from refsynth.core.types import Example, Prompt
from refsynth.data.quote import neutralise, shorten

MARKER = "- "
"""What starts an item; the prompt ends with it (less the space, which belongs to the next token)."""

_HEADINGS = {
    "zh": "以下是一组不同的{style}文本{topic}，每条的内容都是：{description}{unlike}\n\n",
    "en": "The following is a list of different {style}texts{topic}. In each of them, {description}{unlike}:\n\n",
}
_UNLIKE = {"zh": "，而不是：{description}", "en": ", and not that {description}"}
_TOPIC = {"zh": "（关于{topic}）", "en": " about {topic}"}
_PARAPHRASES = {
    "zh": "同一句话的不同说法：\n\n",
    "en": "The following are different ways to say the same thing in other words:\n\n",
}

STYLES: Mapping[str, tuple[str, ...]] = {
    "en": ("short", "long and detailed", "informal", "polite and formal", "impatient", "hesitant", "plain", "unusual"),
    "zh": ("简短的", "详细的", "口语化的", "正式的", "急切的", "犹豫的", "平实的", "少见的"),
}
"""Length and register, as a heading names them (AttrPrompt, Yu et al., 2023: attributes vary what one prompt repeats)."""


def class_prompt(
    label: str,
    description: str,
    shown: Sequence[Example],
    *,
    language: str = "en",
    style: str = "",
    topic: str = "",
    unlike: str = "",
) -> Prompt:
    """Return a prompt that asks for one more text of the class.

    Args:
        label: whose text is wanted.
        description: what the label means, in plain words.
        shown: seed examples of that label, in the order they are to appear; may be empty.
        language: of the texts, ISO 639-1; decides the language of the heading.
        style: one of `STYLES`, or any.
        topic: what the text is about, as words.
        unlike: what a label means that the text is not to have.
    """
    code = language if language in _HEADINGS else "en"
    heading = _HEADINGS[code].format(
        description=neutralise(description),
        style=style + " " if style and code == "en" else style,
        topic=_TOPIC[code].format(topic=neutralise(topic)) if topic else "",
        unlike=_UNLIKE[code].format(description=neutralise(unlike)) if unlike else "",
    )
    return _list_prompt(heading, label, shown)


def paraphrase_prompt(label: str, row: Example, *, language: str = "en") -> Prompt:
    """Return a prompt that asks for the text of a row in other words."""
    return replace(_list_prompt(_PARAPHRASES.get(language, _PARAPHRASES["en"]), label, [row]), rewords=True)


def _list_prompt(heading: str, label: str, shown: Sequence[Example]) -> Prompt:
    items = "".join(f"{MARKER}{shorten(neutralise(example.text))}\n" for example in shown)
    return Prompt(heading + items + MARKER.rstrip(), label, tuple(example.id for example in shown))


def generic_prompt(*, language: str = "en") -> Prompt:
    """Return the prompt that names no class: the denominator of the likelihood ratio."""
    heading = "以下是一组不同的文本：\n\n" if language == "zh" else "The following is a list of different texts:\n\n"
    return Prompt(heading + MARKER.rstrip(), "")
