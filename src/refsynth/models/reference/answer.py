"""What a model that is spoken to answers, taken apart: the texts in a list of any form, without what is said around them.

Knows nothing of servers or of labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MARK = re.compile(
    r"^\s*(?:[-*•–—+]\s+|\*{0,2}\(?\d{1,3}(?:[.):]+\*{0,2}\s+|[、）])|\*{0,2}(?:text|example|message|item)\s+\d{1,3}\s*[:.)]\*{0,2}\s*)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?:^|(?<=\s))(\d{1,3})[.)]\s+")
_HEADING = re.compile(r"^\s*(?:#{1,6}\s|\*\*[^*]+:?\*\*:?\s*$|-{3,}\s*$|={3,}\s*$)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?=[,\]}])')

_OPENER = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great|no problem|gladly)"
_THINGS = r"(?:texts|examples|messages|sentences|variations|versions|items|ways)"
_PREAMBLE = re.compile(
    r"^(?:(?:sure(?: thing)?|certainly|of course|absolutely)\s*[!:]+$"
    rf"|(?:{_OPENER}[!,.:\s]+)?(?:here|below)(?:'s|’s| is| are)\b.*(?:[:：]|\b{_THINGS}(?: (?:for you|below))?[.!]*)$"
    rf"|(?:{_OPENER}[!,.:\s]+)?i(?:'ve|’ve| have) (?:written|created|generated|prepared|come up)\b.*[:：.!]$"
    rf"|{_OPENER}\b.*[:：]$"
    r"|(?:当然|好的|没问题|以下|下面|这里)[^\n]*[：:]$"
    r"|(?:natürlich|gerne?|klar|hier sind|bien sûr|voici|claro|por supuesto|aquí (?:tienes|están)|certo|ecco)\b.*[:：]$)",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"^(?:let me know\b|(?:i )?hope (?:this|these|that)\b.*\bhelp|feel free to (?:ask|adjust|modify|use|let)\b"
    r"|would you like (?:me|more)\b"
    r"|(?:if you|do you) (?:need|want|would like) (?:more|any|me)\b|希望(?:这|以上|对))",
    re.IGNORECASE,
)
_CANNOT = r"i(?:(?:'|’)m| am)? (?:can(?:'|’)?t|can ?not|won(?:'|’)t|will not|(?:not able|unable) to|not going to)"
_REFUSAL = re.compile(
    rf"^(?:(?:i(?:'|’)m|i am|my apologies|apologies|i apologi[sz]e|(?:so |very )?sorry)\b[^.!?]{{0,40}}?)?\b{_CANNOT} "
    r"(?:(?:help|assist)(?: you)? with (?:that|this|your request)(?: request)?\b\s*(?:[.,;!]|$)"
    r"|comply\b|fulfil|(?:generate|create|write|provide|produce|continue|engage in|do)\b[^.!?]{0,60}"
    r"\b(?:content|request|prompt|stereotypes?|of this (?:kind|nature)|such (?:texts?|messages|examples|content))\b)"
    r"|^as an? (?:ai\b|artificial intelligence|(?:large )?language model)"
    r"|^(?:很?抱歉|对不起)[，,]?\s*(?:但)?我(?:不能|无法|没有办法)(?:提供|生成|协助|满足|回答|继续)|^作为(?:一个|一名)?(?:ai|人工智能|语言模型)",
    re.IGNORECASE,
)
_SORRY = re.compile(
    r"^(?:i(?:'|’)m (?:so |very |really )?sorry|i am (?:so |very |really )?sorry|sorry\b|i apologi[sz]e|my apologies|apologies\b"
    r"|unfortunately,? i\b"
    r"|i (?:can(?:'|’)?t|can ?not|won(?:'|’)t|must decline)\b"
    r"|很?抱歉|对不起|es tut mir leid|tut mir leid|lo siento|désolé|je suis désolé|mi dispiace)",
    re.IGNORECASE,
)
FEW = 3
"""Lines of a refusal that does not say outright that it is one."""

_PAIRS = {'"': '"', "“": "”", "「": "」", "«": "»", "„": "“", "‘": "’", "'": "'", "`": "`", "**": "**", "*": "*"}


def is_preamble(line: str) -> bool:
    """Return whether a line introduces texts and is none, as in `Sure! Here are 5 messages:`."""
    return bool(_PREAMBLE.match(line.strip()))


def is_refusal(text: str) -> bool:
    """Return whether a text, wherever it stands, says that the model will not write; a customer who cannot log in does not."""
    return bool(_REFUSAL.match(text.strip()))


def refuses(answer: str, wanted: int) -> bool:
    """Return whether a whole answer is a refusal: it says so, or far fewer texts than wanted begin with being sorry."""
    plain = _THOUGHT.sub("", answer).strip()
    if _listed(plain):
        return False
    found = len(texts_of(plain))
    return is_refusal(plain) or (found <= FEW and 2 * found < wanted and bool(_SORRY.match(plain)))


def _listed(answer: str) -> bool:
    """Return whether lines have the marks of a list, not only one of many that happens to begin like that."""
    lines = [line for line in answer.splitlines() if line.strip()]
    return 3 * sum(bool(_MARK.match(line)) for line in lines) >= max(1, len(lines))


def texts_of(answer: str) -> list[str]:
    """Return the texts in an answer: a JSON array, a list with numbers or bullets, or one text a line, fenced or not.

    What introduces or ends the list is left out.
    """
    plain = _THOUGHT.sub("", answer).strip()
    blocks = [block.strip() for block in _FENCED.findall(plain)]
    plain = "\n".join(block for block in blocks if block) or plain.strip("`")
    found = _from_json(plain)
    if found is None:
        found = list(_from_lines(plain))
    return [text for text in (_bare(text) for text in found) if any(map(str.isalnum, text))]


def _from_json(answer: str) -> list[str] | None:
    """Return the strings of a JSON value that the answer holds; of one that was cut off, those that are whole."""
    starts = [place for place in (answer.find("["), answer.find("{")) if place >= 0]
    before = answer[: min(starts)].strip() if starts else ""
    if not starts or (before and not before.endswith((":", "：")) and not is_preamble(before)):
        return None
    body = answer[min(starts) :]
    strings: list[str] = []
    while body.startswith(("[", "{", '"')):
        try:
            value, end = json.JSONDecoder().raw_decode(body)
        except (ValueError, RecursionError):
            return strings or _cut_off(body)
        strings += _strings(value)
        body = body[end:].lstrip(" \t\r\n,")
    return strings or None


def _cut_off(body: str) -> list[str] | None:
    if not re.match(r'\[\s*"', body):
        return None
    whole = [json.loads(f'"{found}"', strict=False) for found in _STRING.findall(body)]
    return whole or None


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON value: strings in arrays, and of an object its `text`, or its only text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        named = next((value[key] for key in ("text", "message", "content") if isinstance(value.get(key), str)), None)
        if named is not None:
            yield named
            return
        for each in value.values():
            if isinstance(each, (str, list, dict)):
                yield from _strings(each)


def _from_lines(answer: str) -> Iterator[str]:
    lines = answer.splitlines()
    if len([line for line in lines if line.strip()]) == 1 and (inline := _inline(answer)):
        yield from inline
    elif _listed(answer):
        yield from _marked(lines)
    else:
        yield from _unmarked(lines)


def _inline(line: str) -> list[str]:
    """Return the items of a list that stands on one line, `1. ... 2. ...`; nothing where the numbers do not count."""
    found = list(_NUMBER.finditer(line))
    numbers = [int(each[1]) for each in found]
    if len(found) < 2 or numbers != list(range(1, len(found) + 1)):
        return []
    ends = [each.start() for each in found[1:]] + [len(line)]
    return [line[each.end() : end] for each, end in zip(found, ends, strict=True)]


def _marked(lines: list[str]) -> Iterator[str]:
    """Yield the items of a list with marks, each with the lines that go on with it; what stands apart is no item."""
    item: list[str] = []
    for line in [*lines, ""]:
        if (mark := _MARK.match(line)) or not line.strip() or _HEADING.match(line):
            if item:
                yield " ".join(item)
            item = [line[mark.end() :].strip()] if mark and not _HEADING.match(line) else []
        elif item:
            item.append(line.strip())


def _unmarked(lines: list[str]) -> Iterator[str]:
    texts = [line.strip() for line in lines if line.strip() and not _HEADING.match(line)]
    while len(texts) > 1 and (is_preamble(texts[0]) or texts[0].endswith((":", "："))):
        texts = texts[1:]
    if len(texts) == 1 and is_preamble(texts[0]):
        return
    while len(texts) > 1 and _CLOSING.match(texts[-1]):
        texts = texts[:-1]
    for text in texts:
        if text.startswith(("{", '"')):  # JSON lines, or what is left of an array
            try:
                yield from _strings(json.loads(text.rstrip(",")))
                continue
            except (ValueError, RecursionError):
                pass
        yield text


def _bare(text: str) -> str:
    """Return a text on one line, without the quotes or stars around it."""
    text, previous = " ".join(text.split()).strip(), None
    while previous != text:
        previous = text
        if text.endswith(('",', "”,")):
            text = text[:-1]
        for start, end in _PAIRS.items():
            inner = text[len(start) : -len(end)]
            if len(text) > len(start + end) and text.startswith(start) and text.endswith(end) and start not in inner:
                text = inner.strip()
                break
    return text
