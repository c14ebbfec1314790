"""Find phone numbers: those in a country's numbering plan, those in a distinctive form, and those after a word such as `call`.

The time is linear in the text, because the number of checks per text is limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from refsynth.core.extras import require
from refsynth.service.http import patterns
from refsynth.service.http.patterns import Span

_CHECKED = 50  # numbers of a text that are looked up in numbering plans; after that, their form is enough to redact them
_ABROAD_DIGITS, _NATIONAL_DIGITS = 7, 9  # digits of the shortest numbers that are recognized without a word before them
_GROUPS = 7  # maximum groups of digits in a number
_SURE_GROUPS, _LONG = 3, 10  # a number of fewer groups needs this many digits, grouped exactly as in its plan

HOMES: dict[str, tuple[str, ...]] = {
    "en": ("US", "CA", "GB", "IE", "AU", "NZ", "ZA", "IN"),
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CH", "CA"),
    "es": ("ES", "MX", "AR", "CO", "CL", "PE"),
    "pt": ("PT", "BR"),
    "nl": ("NL", "BE"),
    "zh": ("CN", "TW", "HK", "SG"),
    **{"it": ("IT", "CH"), "pl": ("PL",), "sv": ("SE", "FI"), "da": ("DK",), "no": ("NO",), "nb": ("NO",), "fi": ("FI",)},
    **{"cs": ("CZ",), "sk": ("SK",), "hu": ("HU",), "ro": ("RO",), "bg": ("BG",), "hr": ("HR",), "sl": ("SI",), "el": ("GR",)},
    **{"tr": ("TR",), "ru": ("RU",), "uk": ("UA",), "he": ("IL",), "ar": ("SA", "AE", "EG"), "hi": ("IN",), "id": ("ID",)},
    **{"ja": ("JP",), "ko": ("KR",), "th": ("TH",), "vi": ("VN",), "ms": ("MY",), "et": ("EE",), "lt": ("LT",), "lv": ("LV",)},
}
"""The main countries of each language: ISO 639 to ISO 3166 codes."""


class PhoneFinder:
    """Finds phone numbers.

    Args:
        regions: ISO 3166 codes of the countries whose national numbers are recognized.
        home: ISO 3166 codes of the countries whose numbers are recognized by their grouping alone.

    Raises:
        ExtraError: the extra `serve` is not installed.
    """

    def __init__(self, regions: tuple[str, ...], *, home: tuple[str, ...] = ()) -> None:
        self._regions, self._home = tuple(dict.fromkeys((*home, *regions))), home
        self._library: Any = require("phonenumbers", extra="serve")

    def __call__(self, text: str) -> Iterator[Span]:
        """Yield the spans of phone numbers in a text."""
        spans = [*self._planned(text), *self._grouped(text), *_cued(text)]
        for pattern in (patterns.SHAPED, patterns.MOBILE):
            spans += [match.span() for match in pattern.finditer(text)]
        for start, end in _merged(spans):
            extension = patterns.EXTENSION.match(text, end)
            yield start, extension.end() if extension else end

    def _planned(self, text: str) -> Iterator[Span]:
        """Yield the numbers that are in a country's numbering plan."""
        checks = _CHECKED
        for pattern, shortest, is_number in (
            (patterns.ABROAD, _ABROAD_DIGITS, self._is_abroad),
            (patterns.NATIONAL, _NATIONAL_DIGITS, self._is_national),
        ):
            at = 0
            while match := pattern.search(text, at):
                start, at = match.start(), match.end()
                ends = _ends(text, match, shortest) if not patterns.DATE.match(text, start) else []
                if checks <= 0 and ends:
                    yield start, ends[0]
                for end in ends if checks > 0 else ():  # the last groups may not belong to the number
                    checks -= 1
                    if is_number(text[start:end]):
                        yield start, end
                        at = end
                        break

    def _grouped(self, text: str) -> Iterator[Span]:
        """Yield the numbers that are grouped as in a home region."""
        checks = _CHECKED if self._home else 0
        for match in patterns.GROUPED.finditer(text):
            if patterns.DATE.match(text, match.start()):
                continue
            checks -= 1
            if checks < 0:
                return
            if any(self._fits(match[0], region) for region in self._home):
                yield match.span()

    def _fits(self, digits: str, region: str) -> bool:
        groups = patterns.GROUP.findall(digits)
        if len(groups) < _SURE_GROUPS and sum(map(len, groups)) < _LONG:
            return False
        kind = self._library.Leniency
        leniency = kind.VALID if len(groups) >= _SURE_GROUPS else kind.STRICT_GROUPING
        matcher = self._library.PhoneNumberMatcher(digits, region, leniency=leniency, max_tries=3)
        return any(match.start == 0 and match.end == len(digits) for match in matcher)

    def _is_abroad(self, digits: str) -> bool:
        if digits.startswith("+"):
            number = self._parse(digits, None)
            return number is not None and bool(self._library.is_possible_number(number))
        number = self._parse("+" + patterns.PREFIX.sub("", digits), None)
        return number is not None and bool(self._library.is_valid_number(number))

    def _is_national(self, digits: str) -> bool:
        numbers = (self._parse(digits, region) for region in self._regions)
        return any(number is not None and self._library.is_valid_number(number) for number in numbers)

    def _parse(self, digits: str, region: str | None) -> Any | None:
        try:
            return self._library.parse(digits, region)
        except self._library.NumberParseException:
            return None


def _cued(text: str) -> Iterator[Span]:
    """Yield the numbers after a word such as `call`."""
    for match in patterns.CUED.finditer(text):
        cue = patterns.CUE.search(text, max(0, match.start() - patterns.CONTEXT), match.start())
        if cue and not patterns.DATE.match(match[0]):
            yield match.span()


def _ends(text: str, match: re.Match[str], shortest: int) -> list[int]:
    """Return where the number may end, always after a whole group of digits; the longest first."""
    ends = [group.end() for group in patterns.GROUP.finditer(text, *match.span())][:_GROUPS]
    digits = [sum(map(str.isdigit, text[match.start() : end])) for end in ends]
    return [end for end, n in zip(ends, digits, strict=True) if n >= shortest and patterns.AFTER.match(text, end)][::-1]


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
