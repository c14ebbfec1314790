"""Parsing the answers of chat models: the texts in a list of any form, without the sentences around it. Knows no servers."""

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
"""The most lines of an apology that counts as a refusal."""

_PAIRS = {'"': '"', "“": "”", "「": "」", "«": "»", "„": "“", "‘": "’", "'": "'", "`": "`", "**": "**", "*": "*"}


def is_preamble(line: str) -> bool:
    """Return whether a line introduces the texts, as in `Sure! Here are 5 messages:`."""
    return bool(_PREAMBLE.match(line.strip()))


def is_refusal(text: str) -> bool:
    """Return whether a text says that the model will not write. A customer who cannot log in does not say so."""
    return bool(_REFUSAL.match(text.strip()))


def refuses(answer: str, wanted: int) -> bool:
    """Return whether a whole answer is a refusal: it says so, or it begins with an apology and has too few texts."""
    plain = _THOUGHT.sub("", answer).strip()
    if _listed(plain):
        return False
    found = len(texts_of(plain))
    return is_refusal(plain) or (found <= FEW and 2 * found < wanted and bool(_SORRY.match(plain)))


def _listed(answer: str) -> bool:
    """Return whether at least a third of the lines have the marks of a list."""
    lines = [line for line in answer.splitlines() if line.strip()]
    return 3 * sum(bool(_MARK.match(line)) for line in lines) >= max(1, len(lines))


def texts_of(answer: str) -> list[str]:
    """Return the texts in an answer: a JSON array, a list with numbers or bullets, or one text a line, fenced or not.

    Sentences that introduce or close the list are left out.
    """
    plain = _THOUGHT.sub("", answer).strip()
    blocks = [block.strip() for block in _FENCED.findall(plain)]
    plain = "\n".join(block for block in blocks if block) or plain.strip("`")
    texts = _from_json(plain)
    if texts is None:
        texts = list(_from_lines(plain))
    return [text for text in map(_bare, texts) if any(map(str.isalnum, text))]


def _from_json(answer: str) -> list[str] | None:
    """Return the strings of a JSON value in the answer; if it is cut off, its complete strings; None if there is no JSON."""
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
    """Yield the texts of a JSON value: every string, but of an object with `text`, `message` or `content` only that one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        named = next((value[key] for key in ("text", "message", "content") if isinstance(value.get(key), str)), None)
        yield from _strings(list(value.values()) if named is None else named)


def _from_lines(answer: str) -> Iterator[str]:
    lines = answer.splitlines()
    if len([line for line in lines if line.strip()]) == 1 and (inline := _inline(answer)):
        yield from inline
    elif _listed(answer):
        yield from _marked(lines)
    else:
        yield from _unmarked(lines)


def _inline(line: str) -> list[str]:
    """Return the items of a list on one line, `1. ... 2. ...`; empty if the numbers are not consecutive from 1."""
    marks = list(_NUMBER.finditer(line))
    numbers = [int(mark[1]) for mark in marks]
    if len(marks) < 2 or numbers != list(range(1, len(marks) + 1)):
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(line)]
    return [line[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]


def _marked(lines: list[str]) -> Iterator[str]:
    """Yield the items of a list with marks, each with its further lines; lines after an empty one or a heading are no items."""
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
        if text.startswith(("{", '"')):  # JSON lines, or a part of an array
            try:
                yield from _strings(json.loads(text.rstrip(",")))
                continue
            except (ValueError, RecursionError):
                pass
        yield text


def _bare(text: str) -> str:
    """Return a text on one line, without quotes or asterisks around it."""
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
