"""Texts with planted personal data (from Faker, not from our patterns), and texts without any that look as if."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from faker import Faker

from refsynth.service.http.redact import PersonalKind

WESTERN = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pt_BR", "pl_PL", "sv_SE")
ABROAD = {"en_GB": "+44", "de_DE": "+49", "fr_FR": "+33", "es_ES": "+34", "it_IT": "+39", "nl_NL": "+31", "pl_PL": "+48"}

NEUTRAL = (
    "{}",
    "please use {} from now on",
    "My details: {}, and the parcel is still not here.",
    "hello, it should be {}. Can you check? order 48213377",
    "({}) is what I gave you on 2024-05-17",
    "我的资料是{}，请尽快处理。",
    "麻烦改成{}谢谢，订单号20240517000123",
)
CALLS = (
    "call me on {}",
    "my phone number is {} please ring after 5pm",
    "Tel.: {}, order 48213377",
    "Mobile {} - thanks",
    "我的电话是{}，谢谢",
    "请拨打{}联系我",
)


class Planted(NamedTuple):
    """A text, what was planted in it, what it is and in which form, and the language that the redactor is given."""

    text: str
    item: str
    kind: PersonalKind
    form: str
    language: str


def plant(n: int, *, seed: int) -> Iterator[Planted]:
    """Yield `n` texts with one item each, all forms equally often."""
    rng = random.Random(seed)
    locales = dict.fromkeys((*WESTERN, *PERSONS, *AT_HOME, "zh_CN"))
    fakers = {locale: Faker(locale) for locale in locales}
    for number, faker in enumerate(fakers.values()):
        faker.seed_instance(seed + number)
    makers = tuple(_MAKERS.items())
    for number in range(n):
        form, (kind, maker) = makers[number % len(makers)]
        item, templates = maker(rng, fakers)
        text = rng.choice(templates).replace("{}", item)
        yield Planted(text, item, kind, form, LANGUAGES.get(form, "en"))


Made = tuple[str, tuple[str, ...]]
Fakers = dict[str, Faker]


def _email(rng: random.Random, fakers: Fakers) -> Made:
    faker = fakers[rng.choice(WESTERN)]
    address = rng.choice((faker.email, faker.ascii_company_email, faker.free_email))()
    local, _, host = address.partition("@")
    return rng.choice((address, address.upper(), f"{local}+news@{host}", f"{local}@mail.{host}.co")), NEUTRAL


def _grouped(number: str, sizes: tuple[int, ...], separator: str) -> str:
    groups, at = [], 0
    for size in sizes:
        groups.append(number[at : at + size])
        at += size
    return separator.join(group for group in (*groups, number[at:]) if group)


def _iban(rng: random.Random, fakers: Fakers) -> Made:
    iban = fakers[rng.choice(WESTERN[1:7])].iban()
    return rng.choice((iban, iban.lower(), _grouped(iban, (4,) * 8, " "))), NEUTRAL


def _card(rng: random.Random, fakers: Fakers) -> Made:
    number = fakers["en_US"].credit_card_number(rng.choice(("visa16", "mastercard", "amex", "discover", "jcb16", "diners")))
    sizes = (4, 6, 5) if len(number) < 16 else (4, 4, 4, 4)
    return rng.choice((number, _grouped(number, sizes, " "), _grouped(number, sizes, "-"))), NEUTRAL


def _identity(rng: random.Random, fakers: Fakers) -> Made:
    number = fakers["zh_CN"].ssn()
    return rng.choice((number, number.lower(), _grouped(number, (6, 8, 4), " "))), NEUTRAL


def _ip(rng: random.Random, fakers: Fakers) -> Made:
    return rng.choice((fakers["en_US"].ipv4, fakers["en_US"].ipv6))(), NEUTRAL


def _phone(rng: random.Random, fakers: Fakers) -> Made:
    chinese = fakers["zh_CN"].phone_number()
    american = f"{rng.randint(201, 989)}-{rng.randint(201, 998)}-{rng.randint(0, 9999):04}"
    area, rest = american[:3], american[4:]
    locale = rng.choice(tuple(ABROAD))
    foreign = fakers[locale].phone_number()
    choices: tuple[Made, ...] = (
        (rng.choice((chinese, _grouped(chinese, (3, 4, 4), " "), _grouped(chinese, (3, 4, 4), "-"), f"+86 {chinese}")), NEUTRAL),
        (f"0{rng.choice(('10', '21', '755', '571'))}-{rng.randint(20000000, 89999999)}", NEUTRAL),
        (rng.choice((american, american.replace("-", "."), f"({area}) {rest}", f"+1 {area} {rest}", f"1-{american}")), NEUTRAL),
        (foreign, NEUTRAL if foreign.startswith("+") else CALLS),
        (rng.choice((fakers["en_US"].phone_number(), chinese, american.replace("-", ""), foreign)), CALLS),
    )
    return rng.choice(choices)


def _credentials(rng: random.Random, fakers: Fakers) -> Made:
    faker = fakers["en_US"]
    secret = faker.password(length=rng.randint(6, 24), special_chars=False)
    return secret, rng.choice(
        (
            (
                f"postgresql://{faker.user_name()}:{{}}@db.example.com:5432/context",
                f"https://{faker.user_name()}:{{}}@{faker.hostname()}/x",
            ),
            ("see https://example.com/reset?token={}&lang=en", "https://api.example.com/v1?x=1&api_key={} fails"),
            ("ftp://{}@files.example.com/", "链接是https://example.cn/login?password={}，打不开"),
        )
    )


def _person(rng: random.Random, fakers: Fakers) -> Made:
    """Make a country's identity number; where it is bare digits, behind a word that says so."""
    locale = rng.choice(tuple(PERSONS))
    faker, (word, method) = fakers[locale], PERSONS[locale]
    number = str(getattr(faker, method)())
    return number, NEUTRAL if word is None else tuple(template.replace("#", word) for template in NAMED)


def _at_home(locale: str, rng: random.Random, fakers: Fakers) -> Made:
    """Make a national phone number as people write it, without a word before it."""
    shown = ""
    while shown.startswith("+") or len(shown.split()) < 3 or any(not part.isdigit() for part in shown.split()):
        shown = fakers[locale].phone_number()
    return shown, NEUTRAL


def _text(rng: random.Random, letters: str, length: int) -> str:
    return "".join(rng.choice(letters) for _ in range(length))


def _key(rng: random.Random, fakers: Fakers) -> Made:
    """Make a key of a service, by what its documentation says of it."""
    start, letters, length = rng.choice(KEYS)
    return start + _text(rng, letters, length), (*NEUTRAL, "curl -H 'X-Key: {}' fails", "export KEY={}", '{"key": "{}"}')


def _signed(rng: random.Random, fakers: Fakers) -> Made:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = part({"alg": rng.choice(("HS256", "RS256", "ES256")), "typ": "JWT"})
    claims = part({"sub": str(rng.randint(1, 10**9)), "iat": rng.randint(10**9, 2 * 10**9)})
    return f"{head}.{claims}.{_text(rng, WORD, 43)}", (*NEUTRAL, "it says Authorization: Bearer {} is invalid")


def _private(rng: random.Random, fakers: Fakers) -> Made:
    name = rng.choice(("RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))
    lines = "\n".join(_text(rng, WORD.rstrip("-_") + "+/", 64) for _ in range(rng.randint(2, 20)))
    return f"-----BEGIN {name}-----\n{lines}\n-----END {name}-----", ("my key is\n{}\nwhy?", "{}", "config: {} and it fails")


def _password(rng: random.Random, fakers: Fakers) -> Made:
    value = fakers["en_US"].password(length=rng.randint(8, 20), special_chars=rng.random() < 0.5)
    value = value.translate(str.maketrans("", "", ",;<>\"'{}")) + "7x"
    said = ("my password is {} and it fails", "login joe, password: {}", "DB_PASSWORD={} in .env", "api_key: {}", "密码是{} 谢谢")
    return value, said


WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
LETTERS, UPPER, HEX = WORD[:62], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdef"
_STARTS = {
    UPPER: "AKIA 16, ASIA 16",
    LETTERS: "AIza 35, GOCSPX- 28, ya29. 120, AccountKey= 84, ghp_ 36, gho_ 36, github_pat_ 82, glpat- 20, xoxb- 48, xoxp- 60, "
    "sk_live_ 24, rk_test_ 99, whsec_ 32, sk- 48, sk-proj- 120, sk-ant-api03- 93, hf_ 34, gsk_ 52, npm_ 36, pypi- 150, "
    "dckr_pat_ 27, lin_api_ 40",
    HEX: "AC 32, SK 32, key- 32, shpat_ 32, dop_v1_ 64, dapi 32, rsk_0123456789ab_ 48",
}
KEYS = [(each.split()[0], letters, int(each.split()[1])) for letters, listed in _STARTS.items() for each in listed.split(", ")]
"""How a key begins, of which characters the rest is, and how long that is."""
NAMED = ("my # is {}", "#: {}, please check", "here is my # number {} as you asked", "# no. {}")
PERSONS: dict[str, tuple[str | None, str]] = {
    **{locale: (None, "ssn") for locale in ("en_GB", "fr_FR", "it_IT", "sv_SE", "fi_FI", "no_NO", "tr_TR", "ko_KR")},
    **{"en_US": (None, "ssn"), "pt_BR": (None, "cpf"), "de_CH": (None, "ssn"), "es_ES": (None, "nie"), "en_CA": ("SIN", "ssn")},
    **{"nl_NL": ("BSN", "ssn"), "pl_PL": ("PESEL", "ssn"), "hr_HR": ("OIB", "ssn"), "en_IN": ("Aadhaar", "aadhaar_id")},
    **{"el_GR": ("AMKA", "ssn"), "et_EE": ("isikukood", "ssn"), "de_AT": ("SVNR", "ssn")},
}
"""Faker's locales: the word before a number that is bare digits, and what makes it."""
AT_HOME = {"fr_FR": "fr", "pl_PL": "pl", "cs_CZ": "cs", "no_NO": "no"}
LANGUAGES = {f"phone, national, {language}": language for language in AT_HOME.values()}
PARTLY = frozenset({*LANGUAGES, "identity, other countries"})
"""Forms that are found in part only: Faker follows no numbering plan, and knows numbers that no rule tells from an order's."""
_MAKERS: dict[str, tuple[PersonalKind, Callable[[random.Random, Fakers], Made]]] = {
    "e-mail": (PersonalKind.email, _email),
    "phone": (PersonalKind.phone, _phone),
    **{f"phone, national, {language}": (PersonalKind.phone, partial(_at_home, locale)) for locale, language in AT_HOME.items()},
    "IBAN": (PersonalKind.iban, _iban),
    "card": (PersonalKind.card, _card),
    "identity, Chinese": (PersonalKind.identity, _identity),
    "identity, other countries": (PersonalKind.identity, _person),
    "IP address": (PersonalKind.ip, _ip),
    "credentials in a URL": (PersonalKind.credentials, _credentials),
    "keys of services": (PersonalKind.credentials, _key),
    "signed tokens": (PersonalKind.credentials, _signed),
    "private keys": (PersonalKind.credentials, _private),
    "named passwords": (PersonalKind.credentials, _password),
}

HARMLESS = (
    "order {order} has not arrived, I paid {price} on {date}",
    "Invoice no. {order} from {date}: {price} instead of {price}",
    "since version {version} the app crashes at {time}",
    "I updated to v{version} on {date} and {percent} of my files are gone",
    "tracking {tracking} says delivered, ref {code}",
    "item #{order}, qty {small}, size {small}x{small}x{small} cm, SKU {code}",
    "Article {small}.{small}.{small}.{small} of the terms, see https://example.com/help?page={small}&order={order}",
    "we run {version} here and {version} at home, both fail",
    "room {small}, flight LH{small}, {date} {time}, seat {small}A",
    "call the function std::vector at line {small}, error 0x{hex}, build {version}",
    "population {big}, ratio {small}:{small}, coordinates 52.520008, 13.404954",
    "订单{order}还没到，{date}付款{price}元",
    "订单号{long}，快递单号{tracking}，{time}显示已签收",
    "升级到版本{version}之后打不开了，错误码{code}",
    "价格从{small}涨到{small}，涨了{percent}，共{big}件",
    "{date} {time}下的单，编号{long}，尺寸{small}*{small}",
    "the meeting is at {time} on {date}, chapter {small}.{small}, pages {small}-{small}",
)


def harmless(n: int, *, seed: int) -> Iterator[str]:
    """Yield `n` texts without personal data, in English and Chinese, full of numbers."""
    rng = random.Random(seed)
    for number in range(n):
        yield _filled(HARMLESS[number % len(HARMLESS)], rng)


def _filled(template: str, rng: random.Random) -> str:
    def day() -> str:
        y, m, d = rng.randint(2019, 2026), rng.randint(1, 12), rng.randint(1, 28)
        written = (f"{y}-{m:02}-{d:02}", f"{d:02}.{m:02}.{y}", f"{m}/{d}/{y}", f"{y}/{m:02}/{d:02}", f"{y}年{m}月{d}日")
        return rng.choice((*written, f"{d:02}-{m:02}-{y}"))

    def price() -> str:
        cents = rng.randint(99, 10**7) / 100
        return rng.choice((f"${cents:,.2f}", f"{cents:.2f}", f"€{cents:.2f}", f"{int(cents):,}", f"¥{cents:.1f}"))

    def order() -> object:
        grouped = f"{rng.randint(100, 999)}-{rng.randint(10**6, 10**7 - 1)}-{rng.randint(10**6, 10**7 - 1)}"
        return rng.choice((rng.randint(10**5, 10**10), grouped))

    def tracking() -> str:
        numbers = rng.randint(10**9, 10**10), rng.randint(10**12, 10**13 - 1), rng.randint(10**8, 10**9)
        return rng.choice((f"1Z{numbers[0]}A", f"SF{numbers[1]}", f"RR{numbers[2]}DE"))

    parts: dict[str, Callable[[], object]] = {
        "order": order,
        "long": lambda: f"{rng.randint(2019, 2026)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{rng.randint(0, 10**8):08}",
        "tracking": tracking,
        "code": lambda: f"{rng.choice('ABCDEFG')}{rng.randint(10, 99)}-{rng.randint(1000, 99999)}",
        "version": lambda: ".".join(str(rng.randint(0, 40)) for _ in range(rng.choice((2, 3, 4)))),
        "date": day,
        "time": lambda: f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}" + rng.choice(("", f":{rng.randint(0, 59):02}")),
        "price": price,
        "percent": lambda: f"{rng.randint(1, 99)}.{rng.randint(0, 9)}%",
        "small": lambda: rng.randint(1, 99),
        "big": lambda: f"{rng.randint(10**4, 10**9):,}",
        "hex": lambda: f"{rng.randint(10**7, 10**9):x}",
    }
    return re.sub(r"{(\w+)}", lambda found: str(parts[found[1]]()), template)
