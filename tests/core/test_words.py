"""Which languages do not space their words: one answer, for characters and for languages, and who asks for it."""

import re
from pathlib import Path

import numpy as np
import pytest

import refsynth
from refsynth.core.types import Example
from refsynth.core.words import UNSPACED_CLASS, UNSPACED_LANGUAGES, unspaced, words_of
from refsynth.data.text import shingles
from refsynth.labels.rules import _whole
from refsynth.learning.baseline import TfidfLearner
from refsynth.service.http.explain import spans
from refsynth.synthesis.topics import _names

SAMPLES = {
    "zh": "包裹还没有到人々",
    "ja": "荷物がまだ届きませんｶﾀｶﾅ",
    "th": "พัสดุยังไม่มา",
    "lo": "ພັດສະດຸຍັງບໍ່ມາ",
    "km": "កញ្ចប់មិនទាន់មកដល់",
    "my": "ပါဆယ်မရောက်သေးပါ",
}
SPACED = {"en": "parcel", "ko": "소포가", "hi": "पार्सल", "ru": "посылка", "ar": "الطرد", "el": "δέμα", "he": "חבילה"}


def test_languages_and_characters_say_the_same():
    assert frozenset(SAMPLES) == UNSPACED_LANGUAGES
    assert all(unspaced(character) for text in SAMPLES.values() for character in text)
    assert not any(unspaced(character) for text in SPACED.values() for character in text)
    for text in (*SAMPLES.values(), *SPACED.values()):
        assert [bool(re.fullmatch(f"[{UNSPACED_CLASS}]", one)) for one in text] == [unspaced(one) for one in text]


@pytest.mark.parametrize("language", [*SAMPLES, *SPACED])
def test_everybody_who_asks_is_told_the_same(language):
    """What words are, what an explanation is made of, the features of TF-IDF, the names of topics."""
    text, alone = (SAMPLES | SPACED)[language], language in SAMPLES
    assert (len(words_of(text)) == len(text)) is alone
    assert (len(spans(text)) == len(text)) is alone
    assert (len(words_of(text)) == 1) is not alone
    fitted = TfidfLearner(("a", "b"), language=language).fit([Example("1", text, "a"), Example("2", "other", "b")], (), seed=0)
    assert (text[0] in fitted.vectors.parts[0].terms) is alone


@pytest.mark.parametrize("language", ["zh", "ja", "ko", "en", "ru"])
def test_topics_are_named_by_pairs_of_characters_where_words_are_not_spaced(language):
    named = _names([(SAMPLES | SPACED)[language], "else here"], np.array([0, 1]), language)[0]
    assert named and all(len(word) == 2 for word in re.split("[、, ]+", named)) is (language in SAMPLES)


@pytest.mark.parametrize(("language", "n"), [*((name, 2) for name in SAMPLES), ("ko", 2), ("en", 4), ("ru", 4)])
def test_shingles_are_short_where_a_character_says_much(language, n):
    text = (SAMPLES | SPACED)[language]
    assert {len(one) for one in shingles(text, language)} <= {n, len(text)} and len(shingles("abcdef", language)) == 7 - n


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("late", "too late!", True),
        ("late", "translate", False),
        ("破", "杯子破了", True),
        ("iphone", "我的iphone坏了", True),  # whole: what stands beside it is no spaced letter
        ("iphone", "我的iphones坏了", False),
        ("手机x", "买手机x了", True),
        ("ສິນຄ້າ", "ຂໍສິນຄ້າຄືນ", True),
        ("환불", "환불을 원해요", True),  # particles are written onto a Korean word
        ("환불", "미환불 건", False),
    ],
)
def test_a_rules_word_is_whole_where_words_are_spaced(word, text, found):
    assert bool(re.search(_whole(word), text)) is found


def test_no_other_module_knows_characters_of_such_scripts():
    """Fifth definitions come back unseen: whoever names the range of kana or of Han has made one."""
    package = Path(refsynth.__file__).parent
    ranges = re.compile(r"\\u(3040|4e00|0e00|3400)|0x(3040|4E00|0E00)|_?UNSPACED\b *[:=]")
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if ranges.search(path.read_text("utf-8"))}
    assert found == {"core/words.py", "data/language.py"}  # the latter tells languages apart
