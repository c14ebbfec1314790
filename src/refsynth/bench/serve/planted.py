"""Texts with planted personal data (from Faker, not from our patterns), and texts without any that look as if."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from faker import Faker

from refsynth.serve.redact import Kind

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
    """A text, what was planted in it, and what it is."""

    text: str
    item: str
    kind: Kind


def plant(n: int, *, seed: int) -> Iterator[Planted]:
    """Yield `n` texts with one item each, all kinds equally often."""
    rng = random.Random(seed)
    fakers = {locale: Faker(locale) for locale in (*WESTERN, "zh_CN")}
    for number, faker in enumerate(fakers.values()):
        faker.seed_instance(seed + number)
    makers = tuple(_MAKERS.items())
    for number in range(n):
        kind, maker = makers[number % len(makers)]
        item, templates = maker(rng, fakers)
        yield Planted(rng.choice(templates).format(item), item, kind)


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
                f"postgresql://{faker.user_name()}:{{}}@db.example.com:5432/shop",
                f"https://{faker.user_name()}:{{}}@{faker.hostname()}/x",
            ),
            ("see https://example.com/reset?token={}&lang=en", "https://api.example.com/v1?x=1&api_key={} fails"),
            ("ftp://{}@files.example.com/", "链接是https://example.cn/login?password={}，打不开"),
        )
    )


_MAKERS: dict[Kind, Callable[[random.Random, Fakers], Made]] = {
    Kind.email: _email,
    Kind.phone: _phone,
    Kind.iban: _iban,
    Kind.card: _card,
    Kind.identity: _identity,
    Kind.ip: _ip,
    Kind.credentials: _credentials,
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
        return rng.choice(
            (
                f"{y}-{m:02}-{d:02}",
                f"{d:02}.{m:02}.{y}",
                f"{m}/{d}/{y}",
                f"{y}/{m:02}/{d:02}",
                f"{y}年{m}月{d}日",
                f"{d:02}-{m:02}-{y}",
            )
        )

    def price() -> str:
        cents = rng.randint(99, 10**7) / 100
        return rng.choice((f"${cents:,.2f}", f"{cents:.2f}", f"€{cents:.2f}", f"{int(cents):,}", f"¥{cents:.1f}"))

    parts: dict[str, Callable[[], object]] = {
        "order": lambda: rng.choice(
            (
                rng.randint(10**5, 10**10),
                f"{rng.randint(100, 999)}-{rng.randint(10**6, 10**7 - 1)}-{rng.randint(10**6, 10**7 - 1)}",
            )
        ),
        "long": lambda: f"{rng.randint(2019, 2026)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{rng.randint(0, 10**8):08}",
        "tracking": lambda: rng.choice(
            (f"1Z{rng.randint(10**9, 10**10)}A", f"SF{rng.randint(10**12, 10**13 - 1)}", f"RR{rng.randint(10**8, 10**9)}DE")
        ),
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
    for name, make in parts.items():
        while f"{{{name}}}" in template:
            template = template.replace(f"{{{name}}}", str(make()), 1)
    return template
