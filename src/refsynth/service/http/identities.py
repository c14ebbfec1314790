"""Find identity numbers of persons, by country. Check digits are verified with `python-stdnum`.

A number in a distinctive form is found anywhere. Bare digits with one check digit, which one in ten order numbers satisfies too,
are found only after a word that names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from refsynth.core.extras import require
from refsynth.service.http import patterns
from refsynth.service.http.patterns import Span

_BEFORE = r"(?<![A-Za-z0-9])(?<![0-9][.,/ -])"
_AFTER = r"(?![A-Za-z0-9]|[.,/ -][0-9])"  # an adjacent group of digits makes it part of a longer number


class Scheme(NamedTuple):
    """A country's identity number: its stdnum module, its distinctive form, and the forms that need a word before them."""

    module: str
    form: str = ""
    named: str = ""


SCHEMES = (
    Scheme("us.ssn", r"[0-9]{3}-[0-9]{2}-[0-9]{4}", named=r"[0-9]{9}|[0-9]{3} [0-9]{2} [0-9]{4}"),
    Scheme("us.itin", r"9[0-9]{2}-[0-9]{2}-[0-9]{4}"),
    Scheme("", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"),  # British, no check digit
    Scheme("gb.nhs", named=r"[0-9]{10}|[0-9]{3}[ -][0-9]{3}[ -][0-9]{4}"),
    Scheme("ca.sin", r"[0-9]{3}-[0-9]{3}-[0-9]{3}", named=r"[0-9]{9}|[0-9]{3} [0-9]{3} [0-9]{3}"),
    Scheme("fr.nir", r"[12378] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"),
    Scheme("it.codicefiscale", r"[A-Za-z]{6} ?[0-9L-Vl-v]{2}[A-Za-z][0-9L-Vl-v]{2} ?[A-Za-z][0-9L-Vl-v]{3}[A-Za-z]"),
    Scheme("es.dni", r"[0-9]{8}[ -]?[A-Za-z]|[0-9]{2}\.[0-9]{3}\.[0-9]{3}[ -]?[A-Za-z]"),
    Scheme("es.nie", r"[XYZxyz][ -]?[0-9]{7}[ -]?[A-Za-z]"),
    Scheme("de.idnr", r"[0-9]{11}|[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}"),
    Scheme("at.vnr", r"[0-9]{4} [0-9]{6}", named=r"[0-9]{10}"),
    Scheme("ch.ssn", r"756(\.?)[0-9]{4}\1[0-9]{4}\1[0-9]{2}"),
    Scheme("nl.bsn", named=r"[0-9]{9}|[0-9]{4}\.[0-9]{2}\.[0-9]{3}"),
    Scheme("be.nn", r"[0-9]{11}|[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}|[0-9]{6}[ -][0-9]{3}[ -.][0-9]{2}"),
    Scheme("se.personnummer", r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", named=r"[0-9]{10}|[0-9]{12}"),
    Scheme("no.fodselsnummer", r"[0-9]{11}|[0-9]{6} [0-9]{5}"),
    Scheme("dk.cpr", named=r"[0-9]{6}[- ]?[0-9]{4}"),
    Scheme("fi.hetu", r"[0-9]{6}[-+A-FU-Ya-fu-y][0-9]{3}[0-9A-Ya-y]"),
    Scheme("is_.kennitala", r"[0-9]{6}-[0-9]{4}"),
    Scheme("pl.pesel", named=r"[0-9]{11}"),
    Scheme("cz.rc", r"[0-9]{6}/[0-9]{3,4}"),
    Scheme("ro.cnp", r"[1-9][0-9]{12}"),
    Scheme("bg.egn", named=r"[0-9]{10}"),
    Scheme("hr.oib", named=r"[0-9]{11}"),
    Scheme("si.emso", r"[0-9]{13}"),
    Scheme("ee.ik", named=r"[1-8][0-9]{10}"),
    Scheme("gr.amka", named=r"[0-9]{11}"),
    Scheme("pt.cc", r"[0-9]{8} ?[0-9] ?[A-Z0-9]{2}[0-9]"),
    Scheme("pt.nif", named=r"[0-9]{9}|[0-9]{3} [0-9]{3} [0-9]{3}"),
    Scheme("ie.pps", r"[0-9]{7}[A-Wa-w][ABWTXZabwtxz]?"),
    Scheme("tr.tckimlik", r"[1-9][0-9]{10}"),
    Scheme("ru.inn", named=r"[0-9]{12}"),
    Scheme("ua.rntrc", named=r"[0-9]{10}"),
    Scheme("il.idnr", named=r"[0-9]{9}|[0-9]{8}-[0-9]"),
    Scheme("in_.aadhaar", r"[2-9][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}", named=r"[2-9][0-9]{11}"),
    Scheme("in_.pan", r"[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]"),
    Scheme("jp.in_", r"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}", named=r"[0-9]{12}"),
    Scheme("", r"[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])-[1-8][0-9]{6}"),  # Korean; new ones have no check digit
    Scheme("my.nric", r"[0-9]{6}-[0-9]{2}-[0-9]{4}"),
    Scheme("th.pin", r"[0-9](-?)[0-9]{4}\1[0-9]{5}\1[0-9]{2}\1[0-9]"),
    Scheme("id.nik", named=r"[0-9]{16}"),
    Scheme("pk.cnic", r"[0-9]{5}-[0-9]{7}-[0-9]"),
    Scheme("au.tfn", named=r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}"),
    Scheme("za.idnr", r"[0-9]{13}|[0-9]{6} [0-9]{4} [0-9]{3}"),
    Scheme("br.cpf", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{11}"),
    Scheme("ar.cuit", r"[0-9]{2}-[0-9]{8}-[0-9]"),
    Scheme("cl.rut", r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9Kk]|[0-9]{7,8}-[0-9Kk]"),
    Scheme("mx.curp", r"[A-Z]{4}[0-9]{6}[A-Z]{6}[0-9A-Z][0-9]"),
)
CUE = re.compile(
    r"(?:\b(?:ssn|itin|social (?:security|insurance)|national insurance|(?:national|personal|resident|citizen|tax|taxpayer) ?id"
    r"|id card|identity|identification|tin|sin|tfn|tax file|nhs|bsn|burgerservicenummer|nif|nie|dni|contribuinte|pesel|oib"
    r"|egn|cpr|cnp|amka|isikukood|personnummer|person-?nr|personalnummer|sozialversicherung(?:snummer)?|sv-?nr|svnr|aadhaa?r|nik|ktp"
    r"|my ?number|inn|rut|curp)|инн|рнокпп|ת\.?ז|マイナンバー|个人番号|個人番号|身份证|身份證)"
    r"[\s:：.,#()-]{0,4}(?:(?:number|nummer|no|nr|id|code|card|is|ist|är|er|是|号码|号)[\s:：.,#()-]{0,4}){0,3}$",
    re.IGNORECASE,
)
_DIGIT = re.compile("[0-9]{2}")


class IdentityFinder:
    """Finds identity numbers.

    Raises:
        ExtraError: the extra `serve` is not installed.
    """

    def __init__(self) -> None:
        self._schemes = [
            (re.compile(_BEFORE + f"(?:{form})" + _AFTER), _check(scheme.module), named)
            for scheme in SCHEMES
            for form, named in ((scheme.form, False), (scheme.named, True))
            if form
        ]

    def __call__(self, text: str) -> Iterator[Span]:
        """Yield the spans of identity numbers in a text; they may overlap."""
        if not _DIGIT.search(text):
            return
        for form, is_valid, named in self._schemes:
            for match in form.finditer(text):
                distinctive = not named and not patterns.MOBILE.fullmatch(match[0])
                start = match.start()
                if is_valid(match[0]) and (distinctive or CUE.search(text, max(0, start - patterns.CONTEXT), start)):
                    yield match.span()


def _check(module: str) -> Callable[[str], bool]:
    if not module:
        return lambda number: True
    checker: Any = require(f"stdnum.{module}", extra="serve")
    return lambda number: bool(checker.is_valid(number))
