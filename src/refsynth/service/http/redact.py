"""Structured personal data in texts, found and replaced.

E-mail addresses, phone numbers, IBANs, payment cards, identity numbers, IP addresses, keys, tokens and passwords.

What has a checksum must satisfy it. What has none needs its usual shape, and a word before it where the shape says too little: an
order number is to survive. Postal addresses are not found, and names only where a finder of names is given: no pattern can.
The time is linear in the text, whatever it holds: patterns are bounded or possessive, and the checks per text are counted.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from refsynth.core.extras import require
from refsynth.service.http import patterns
from refsynth.service.http.identities import IdentityFinder
from refsynth.service.http.patterns import Span
from refsynth.service.http.phones import HOMES, PhoneFinder
from refsynth.service.http.tokens import find_tokens

REGIONS = ("US", "GB", "CN", "DE", "FR", "ES", "IT", "NL", "IN", "JP", "BR", "AU")

_SMALL = 50  # of random addresses one in 700 has only parts below it
_PRIVATE = 10  # 10.0.0.1 and so on
_ANY = re.compile(r"[0-9@]|%40|://|-----BEGIN", re.ASCII)  # without one of these there is nothing to find


class PersonalKind(StrEnum):
    """What is found; `[EMAIL]` and so on stands in its place."""

    credentials = "CREDENTIALS"
    email = "EMAIL"
    iban = "IBAN"
    identity = "ID"
    card = "CARD"
    ip = "IP"
    phone = "PHONE"
    person = "PERSON"


class Finding(NamedTuple):
    """A place in a text: `text[start:end]`."""

    kind: PersonalKind
    start: int
    end: int


class Redacted(NamedTuple):
    """The text with placeholders, and how many of each kind."""

    text: str
    counts: Mapping[PersonalKind, int]


class Redactor:
    """Finds and replaces."""

    def __init__(
        self,
        *,
        language: str = "",
        names: Callable[[str], Iterator[Span]] | None = None,
    ) -> None:
        """Prepare to redact.

        Args:
            language: ISO 639 code of what the texts are mostly in; the phone numbers of its countries are found in their own
                grouping too, without a sign that they are numbers of phones.
            names: yields the places of names of persons in a text, as `names.NameFinder` does.

        Raises:
            ExtraError: the extra `serve` is not installed.
        """
        self._names = names
        # Earlier ones win: the password of a URL looks like the start of an e-mail address, a card holds phone numbers.
        self._finders: tuple[tuple[PersonalKind, Callable[[str], Iterator[Span]]], ...] = (
            (PersonalKind.credentials, _credentials),
            (PersonalKind.email, _emails),
            (PersonalKind.iban, _Ibans().find),
            (PersonalKind.identity, _identities()),
            (PersonalKind.card, _checked_cards()),
            (PersonalKind.ip, _addresses),
            (PersonalKind.phone, PhoneFinder(REGIONS, home=HOMES.get(language.partition("-")[0].lower(), ()))),
        )

    def find(self, text: str) -> list[Finding]:
        """Return what is found, in order, without overlaps."""
        plain = text.translate(patterns.PLAIN)
        found: list[Finding] = []
        finders = self._finders if _ANY.search(plain) else ()
        for kind, places in (*finders, *([(PersonalKind.person, self._names)] if self._names else [])):
            spans = list(places(plain))
            plain = "".join(_pieces(plain, ((start, end, "\0" * (end - start)) for start, end in spans)))
            found += [Finding(kind, start, end) for start, end in spans]
        return sorted(found, key=lambda each: each.start)

    def redact(self, text: str) -> Redacted:
        """Return the text with a placeholder for each find."""
        found = self.find(text)
        parts = _pieces(text, ((start, end, f"[{kind.value}]") for kind, start, end in found))
        return Redacted("".join(parts), Counter(each.kind for each in found))


def _pieces(text: str, replaced: Iterable[tuple[int, int, str]]) -> Iterator[str]:
    last = 0
    for start, end, instead in replaced:
        yield text[last:start]
        yield instead
        last = end
    yield text[last:]


def _credentials(text: str) -> Iterator[Span]:
    found = [match.span(1) for match in patterns.SECRET.finditer(text)]
    parts = {start for start, _ in found}  # what stands in an address ends with its part of it
    found += [span for span in find_tokens(text) if span[0] not in parts]
    for match in patterns.USER_INFO.finditer(text):
        start, end = match.span(1)
        rest = patterns.HOST.match(text, match.end())
        if rest and "@" in rest[0]:  # the password itself holds an @
            end = rest.start() + rest[0].rindex("@")
        found.append((start, end))
    return _without_overlaps(found)


def _without_overlaps(spans: Iterable[Span]) -> Iterator[Span]:
    last = 0
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= last:
            yield start, end
            last = end


def _emails(text: str) -> Iterator[Span]:
    for match in patterns.EMAIL.finditer(text):
        labels = match[1].split(".")
        while labels and not patterns.TOP_LEVEL.fullmatch(labels[-1].rstrip("-")):
            labels.pop()
        if len(labels) > 1:
            local = match[0][: match.start(1) - match.start()]
            start = match.start() + len(local) - len(local.lstrip("'.-+"))
            yield start, match.start(1) + len(".".join(labels).rstrip("-"))


class _Ibans:
    def __init__(self) -> None:
        self._iban, self._table = require("stdnum.iban", extra="serve"), require("stdnum.numdb", extra="serve").get("iban")
        self._length = cache(self._look_up)

    def find(self, text: str) -> Iterator[Span]:
        last = 0
        for match in patterns.IBAN.finditer(text):
            length = self._length(match[1][:2].upper())
            if match.start() < last or not length:
                continue
            ends = [at for at, char in enumerate(match[1], 1) if char.isalnum()]
            if len(ends) < length or match[1][ends[length - 1] :][:1].isalnum():
                continue
            end = ends[length - 1]
            if self._iban.is_valid(match[1][:end], check_country=False):
                last = match.start() + end
                yield match.start(), last

    def _look_up(self, country: str) -> int:
        """Return the length of a country's IBANs, 0 where it has none."""
        structure = self._table.info(country)[0][1].get("bban", "")
        return 4 + sum(map(int, re.findall(r"([0-9]+)!", structure))) if structure else 0


def _identities() -> Callable[[str], Iterator[Span]]:
    checksum = require("stdnum.iso7064.mod_11_2", extra="serve")
    foreign = IdentityFinder()

    def find(text: str) -> Iterator[Span]:
        chinese = patterns.IDENTITY.finditer(text)
        found = [match.span() for match in chinese if checksum.is_valid("".join(match.groups()).upper())]
        return _without_overlaps([*found, *foreign(text)])

    return find


def _checked_cards() -> Callable[[str], Iterator[Span]]:
    luhn = require("stdnum.luhn", extra="serve")

    def is_card(shown: str) -> bool:
        digits = re.sub("[^0-9]", "", shown)
        return bool(patterns.BRAND.fullmatch(digits)) and bool(luhn.is_valid(digits))

    def find(text: str) -> Iterator[Span]:
        for match in patterns.CARD.finditer(text):
            without_last = re.sub("[ .-][0-9]+$", "", match[0])  # a group that follows may be its date or code
            for shown in dict.fromkeys((match[0], without_last)):
                if is_card(shown):
                    yield match.start(), match.start() + len(shown)
                    break

    return find


def _addresses(text: str) -> Iterator[Span]:
    found = []
    for match in patterns.IPV4.finditer(text):
        parts = [int(part) for part in match[0].split(".")]
        if max(parts) < 256 and not _is_version(text, match.start(), parts):
            found.append(match.span())
    for match in patterns.IPV6.finditer(text):
        for shown in (match[0], match[0].rstrip(".:")):
            if _is_ipv6(shown):
                found.append((match.start(), match.start() + len(shown)))
                break
    return _without_overlaps(found)


def _is_version(text: str, start: int, parts: list[int]) -> bool:
    """Tell a version or a section of four parts from an address: by the word before it, else by its small numbers."""
    before = (text, max(0, start - patterns.CONTEXT), start)
    if patterns.NUMBERED.search(*before):
        return True
    return max(parts) < _SMALL and parts[0] != _PRIVATE and not patterns.MACHINE.search(*before)


def _is_ipv6(shown: str) -> bool:
    """Tell an address from a time of day or from code such as `a::b`."""
    try:
        ipaddress.IPv6Address(shown)
    except ValueError:
        return False
    return any(char.isdigit() for char in shown)
