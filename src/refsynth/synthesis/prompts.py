"""Prompts for one label: a list of texts that ends where a completion model writes the next item.

A chat model gets the same request as a message that asks for several texts at once.

User text is data: anything that a chat template could read as markup, or that looks like the structure of the list, is
neutralized before it is shown. This module knows neither quotas nor models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from refsynth.core.task import Task
from refsynth.core.types import COUNT, Example, Prompt
from refsynth.data.language import UNKNOWN
from refsynth.data.quote import neutralize, shorten

MARKER = "- "
"""Starts an item. The prompt ends with it, without the space, which belongs to the next token."""

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
_ASKED = {
    "zh": "请写出{count}条不同的{style}文本{topic}，每条的内容都是：{description}{unlike}。",
    "en": "Write {count} different {style}texts{topic}. In each of them, {description}{unlike}.",
}
_REWORDED = {
    "zh": "请用{count}种不同的说法表达下面这条文本的意思：",
    "en": "Write {count} different ways to say the following in other words:",
}
_SHOWN = {
    "zh": "例子（写出新的，不要重复这些）：",
    "en": "Examples (write new ones like these, repeat none):",
}
_FORM = {
    "zh": "只输出带编号的列表，每条一行，不要其他内容。",
    "en": "Answer with a numbered list, one text on each line, and nothing else.",
}
_IN = "Write in the language of the examples ({code})."
_OF = "Write in the language with the code '{code}'."

STYLES: Mapping[str, tuple[str, ...]] = {
    "en": ("short", "long and detailed", "informal", "polite and formal", "impatient", "hesitant", "plain", "unusual"),
    "zh": ("简短的", "详细的", "口语化的", "正式的", "急切的", "犹豫的", "平实的", "少见的"),
}
"""Lengths and registers for headings. Attributes vary drafts that one prompt would repeat (AttrPrompt, Yu et al., 2023)."""


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
        label: of the text to write.
        description: what the label means, in plain words.
        shown: seed examples of the label, in the order in which they appear; may be empty.
        language: of the texts, ISO 639-1; decides the language of the heading.
        style: one of `STYLES`, or any other.
        topic: of the text, as words.
        unlike: the description of a label that the text must not have.
    """
    code = language if language in _HEADINGS else "en"
    parts = {
        "description": neutralize(description),
        "style": style + " " if style and code == "en" else style,
        "topic": _TOPIC[code].format(topic=neutralize(topic)) if topic else "",
        "unlike": _UNLIKE[code].format(description=neutralize(unlike)) if unlike else "",
    }
    message = _message(_ASKED[code].format(count=COUNT, **parts), shown, language, lead=_SHOWN[code])
    return replace(_list_prompt(_HEADINGS[code].format(**parts), label, shown), chat=message)


def paraphrase_prompt(label: str, row: Example, *, language: str = "en") -> Prompt:
    """Return a prompt that asks for a paraphrase of a row's text."""
    code = language if language in _HEADINGS else "en"
    message = _message(_REWORDED[code].format(count=COUNT), [row], language)
    return replace(_list_prompt(_PARAPHRASES[code], label, [row]), rewords=True, chat=message)


def _list_prompt(heading: str, label: str, shown: Sequence[Example]) -> Prompt:
    return Prompt(heading + _items(shown) + MARKER.rstrip(), label, tuple(example.id for example in shown))


def _items(shown: Sequence[Example]) -> str:
    return "".join(f"{MARKER}{shorten(neutralize(example.text))}\n" for example in shown)


def _message(request: str, shown: Sequence[Example], language: str, *, lead: str = "") -> str:
    """Return a message of the request, the examples, the form of the answer and its language."""
    code = language if language in _HEADINGS else "en"
    examples = "\n\n" + (f"{lead}\n" if lead else "") + _items(shown).rstrip() if shown else ""
    clear = language in ("en", "zh", UNKNOWN)
    in_language = "" if clear else " " + (_IN if shown else _OF).format(code=language)
    return f"{request}{examples}\n\n{_FORM[code]}{in_language}"


def generic_prompt(*, language: str = "en") -> Prompt:
    """Return the prompt that names no label: the denominator of the likelihood ratio."""
    heading = "以下是一组不同的文本：\n\n" if language == "zh" else "The following is a list of different texts:\n\n"
    return Prompt(heading + MARKER.rstrip(), "")


def can_write(task: Task, language: str) -> bool:
    """Return whether the reference writes the language, and so can also score texts in it."""
    return task.config.reference_spec.writes(language)


def known_only(task: Task) -> str:
    """Return the languages of the reference for a message, such as "English only"."""
    return f"{' and '.join(NAMES.get(code, code) for code in task.config.reference_spec.languages)} only"


NAMES: Mapping[str, str] = {"en": "English", "zh": "Chinese"}
"""Names of languages in messages. Other languages appear by their code."""


def class_prompts(meanings: Mapping[str, str], language: str) -> dict[str, Prompt]:
    """Return each label's prompt with its description and without seed examples."""
    return {label: class_prompt(label, text, (), language=language) for label, text in meanings.items()}
