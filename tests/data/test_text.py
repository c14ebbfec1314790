"""Cleaning, comparing, near-duplicates, language."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.data.language import UNKNOWN, detect_language
from refsynth.data.text import clean, near_groups, nearest_of, nearest_overlap, normalize, shingles

VOCABULARY = "where is my new card it was lost or stolen today please help"
words = st.lists(
    st.sampled_from(VOCABULARY.split()),
    max_size=8,
).map(" ".join)


@given(st.text(st.characters()))
def test_cleaning_is_idempotent_and_gives_what_can_be_written(text):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    cleaned.encode()
    assert not any(ord(char) < 32 for char in cleaned)
    assert normalize(normalize(text)) == normalize(text)


def test_cleaning_and_comparing():
    assert clean(" a\0b\t\r\n c\u200b\x85d \ud800") == "ab c d \ufffd"
    assert clean("😀 你好　世界") == "😀 你好 世界"
    assert normalize("ＦＵＬＬ  Straße ﬁne") == "full strasse fine"


def test_shingles():
    assert shingles("Abcde", "en") == {"abcd", "bcde"}
    assert shingles("我的卡", "zh") == {"我的", "的卡"}
    assert shingles("ab", "en") == {"ab"}
    assert shingles(" ", "en") == frozenset()


def jaccard(one: str, other: str, language: str) -> float:
    a, b = shingles(one, language) or {""}, shingles(other, language) or {""}
    return len(a & b) / len(a | b)


def components(texts: list[str], threshold: float) -> np.ndarray:
    """By the definition: connected components of the graph of all pairs, by flooding."""
    language = detect_language(texts)
    group = np.arange(len(texts))
    for i in range(len(texts)):
        for j in range(i):
            if jaccard(texts[i], texts[j], language) >= threshold:
                group[group == group[i]] = group[j]
    numbers = {}
    return np.array([numbers.setdefault(g, len(numbers)) for g in group], int)


@settings(max_examples=100, deadline=None)
@given(st.lists(words, max_size=14), st.sampled_from([0.6, 0.7, 0.9, 1.0]))
def test_groups_are_the_connected_components(texts, threshold):
    np.testing.assert_array_equal(near_groups(texts, threshold=threshold), components(texts, threshold))


@settings(max_examples=100, deadline=None)
@given(st.lists(words, max_size=8), st.lists(words, max_size=8))
def test_overlap_is_the_highest_jaccard(texts, against):
    expected = [max((jaccard(text, other, "en") for other in against), default=0.0) for text in texts]
    np.testing.assert_allclose(nearest_overlap(texts, against, language="en"), expected)


def test_near_duplicates_in_two_languages():
    english = ["Where is my new card?", "where is  my new card", "I lost my card", "Please close my account now"]
    assert near_groups(english).tolist() == [0, 0, 1, 2]
    assert near_groups(["我的新卡什么时候到", "我的新卡什么时候到？", "我想注销账户", "卡丢了"]).tolist() == [0, 0, 1, 2]
    assert nearest_overlap(["我的新卡什么时候到？"], ["我的新卡什么时候到"])[0] == pytest.approx(8 / 9)


def test_a_large_family_of_near_copies_is_one_group():
    texts = [f"Hello, my order number {i} has not arrived yet and I would like to know where it is" for i in range(3000)]
    assert near_groups(texts).max() == 0


def test_long_texts_and_nothing():
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz    "))
    long = ["".join(rng.choice(letters, 10_000)) for _ in range(3)]
    assert near_groups([*long, long[0] + " end"]).tolist() == [0, 1, 2, 0]
    assert near_groups([]).shape == nearest_overlap([], ["x"]).shape == (0,)
    assert nearest_overlap(["x"], []).tolist() == [0.0]


def test_groups_do_not_depend_on_the_process():
    program = """
from refsynth.data.text import near_groups
print(near_groups([f"text {i} and {i % 7} more {i * i % 11}" for i in range(300)], threshold=0.6).tolist())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the card that I ordered last week?", "en"),
        ("refund pls, card not working and I can't pay", "en"),
        ("Wo ist meine Karte? Ich habe sie noch nicht bekommen", "de"),
        ("¿Dónde está mi tarjeta? No puedo entrar en la cuenta", "es"),
        ("je ne peux pas me connecter à mon compte", "fr"),
        ("Rechnung zu hoch", "de"),
        ("colis pas arrivé", "fr"),
        ("carte de crédit", "fr"),
        ("dónde está el paquete", "es"),
        ("where is it", "en"),
        ("де моє замовлення", "uk"),
        ("سفارش من کجاست", "fa"),
        ("我的 iPhone 15 Pro Max 还没到", "zh"),
        ("注文した商品がまだ届きません", "ja"),
        ("주문한 상품이 아직 도착하지 않았습니다", "ko"),
        ("где мой заказ", "ru"),
        ("أين طلبي", "ar"),
        ("איפה ההזמנה שלי", "he"),
        ("πού είναι η παραγγελία μου", "el"),
        ("मेरा ऑर्डर कहाँ है", "hi"),
        ("คำสั่งซื้อของฉันอยู่ที่ไหน", "th"),
        ("12 345 !", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_language(text, language):
    assert detect_language([text]) == language


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("de", ["Konto gesperrt worden", "Paket kommt nicht", "Rechnung ist falsch", "wo bleibt es", "Karte geht nicht"]),
        ("es", ["cuenta bloqueada hoy", "no llega nada", "factura doble cargo", "quiero mi dinero", "tarjeta no funciona"]),
        ("fr", ["compte bloqué hier", "colis pas arrivé", "facture trop chère", "où est-il", "carte ne marche pas"]),
        ("en", ["late parcel", "app crashes", "account locked", "terrible service", "card not working", "good"]),
    ],
)
def test_the_language_of_a_few_short_texts(language, texts):
    assert detect_language(texts) == language


def test_a_mixture_is_no_language():
    assert detect_language(["Where is the card that I ordered?", "我的卡丢了"] * 3) == UNKNOWN
    assert detect_language([]) == UNKNOWN


@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=8), st.lists(st.text(alphabet="ab c", max_size=12), max_size=8))
def test_the_nearest_is_the_first_of_the_most_similar(texts, others):
    found = nearest_of([texts], [others], language="en")
    for text, place, overlap in zip(texts, *found, strict=True):
        sets = [shingles(each, "en") for each in (text, *others)]
        shares = [len(sets[0] & each) / len(sets[0] | each) if sets[0] or each else 1.0 for each in sets[1:]]
        assert overlap == pytest.approx(max(shares, default=0.0))
        assert place == (shares.index(max(shares)) if max(shares, default=0.0) else -1)


def test_pairs_are_as_similar_as_their_less_similar_halves():
    found = nearest_of([["abcdef", "abcdef"], ["one two", "one two"]], [["abcdef", "abcdez"], ["xyz", "one two"]], language="en")
    assert found.place.tolist() == [1, 1]
    assert found.overlap == pytest.approx([0.5, 0.5])  # abcd, bcde of the two and one more each
