"""Golden texts: built-in sentences with fp32 probabilities that a bundle carries, so that it can test itself on each machine.

Integer arithmetic differs between processors: without VNNI the sum of two 8-bit products can saturate silently. The test detects
that. The sentences are ours and neutral; none is a user's row.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refsynth.core.errors import BundleError
from refsynth.core.types import Array, FloatArray
from refsynth.core.words import words_of

GOLDEN_LIMIT = 0.15
"""The largest difference from fp32 probabilities that counts as rounding (design/003-bundle.md has the measurements)."""

TOLERATED = 0.1
"""The share of golden texts that may be off: near a decision boundary a sharp head turns rounding into a large step."""

GOLDEN_TEXTS = (
    "Hello, I have a question about my account.",
    "The parcel arrived two days late and the box was open.",
    "Thank you, that was quick and very helpful.",
    "Where can I change my delivery address?",
    "I was charged twice for the same order.",
    "The screen stays black when I press the power button.",
    "Please cancel my subscription at the end of the month.",
    "How long does a refund take?",
    "The room was clean, but the street was noisy at night.",
    "I would like to book a table for four on Friday evening.",
    "My password does not work any more.",
    "What time does the museum open on Sundays?",
    "The company reported a small rise in sales this quarter.",
    "Rain is expected in the north tomorrow.",
    "The film was far too long and the ending made no sense.",
    "This is the best coffee maker we have ever owned.",
    "Can you play some quiet music?",
    "Set an alarm for half past six.",
    "The new library was opened by the mayor last week.",
    "Our team lost the final by a single point.",
    "The study compared two groups of forty patients.",
    "Prices fell for the third month in a row.",
    "I am not sure whether the red or the blue one fits better.",
    "Nobody answered the phone all morning.",
    "The update fixed the problem, thanks.",
    "Does the warranty cover a broken hinge?",
    "It is fine, nothing special, but it does its job.",
    "The driver was friendly and helped with the luggage.",
    "Send me a copy of the invoice, please.",
    "My flight was moved to the evening without any notice.",
    "The soup was cold and the waiter forgot the bread.",
    "Scientists found a new species of beetle on the island.",
    "The council will vote on the plan in March.",
    "A simple recipe with rice, beans and a little salt.",
    "The battery lasts about five hours.",
    "I lost my card on the train this morning.",
    "Which documents do I need to open an account?",
    "The website shows an error after I log in.",
    "She read the letter twice and put it away.",
    "The engine makes a strange noise at high speed.",
    "Great value for the price, I would buy it again.",
    "The instructions are hard to understand.",
    "Is there a discount for students?",
    "The meeting was moved from Tuesday to Thursday.",
    "Water boils at a lower temperature in the mountains.",
    "They painted the old bridge green.",
    "ok",
    "12:30, platform 4, ticket no. 7781",
    "你好，我想咨询一下我的账户问题。",
    "包裹晚到了两天，盒子已经破了。",
    "谢谢，处理得很快，很有帮助。",
    "请问在哪里可以修改收货地址？",
    "同一笔订单被扣了两次款。",
    "按下电源键以后屏幕还是黑的。",
    "退款一般需要多长时间？",
    "房间很干净，但是晚上街上有点吵。",
    "我忘记密码了，登录不上去。",
    "博物馆星期天几点开门？",
    "公司本季度的销售额略有增长。",
    "预计明天北部地区有雨。",
    "这部电影太长，结尾也看不懂。",
    "这是我们用过的最好的咖啡机。",
    "本文比较了两组病人的治疗结果。",
    "会议从星期二改到了星期四。",
)


class Golden(NamedTuple):
    """Texts and the fp32 model's probabilities of them [N, K], or in token classification of all their words [M, C]."""

    texts: tuple[str, ...]
    probabilities: FloatArray

    def share_off(self, probabilities: FloatArray, *, limit: float, several: bool = False) -> float:
        """Return the share of texts, or of words, whose answer differs from fp32 by more than rounding explains.

        Such a text has a probability that is off by more than the limit or NaN, or another top label although the fp32 label led
        by more than the limit; rounding may flip a smaller lead. With `several` labels per text only probabilities count.
        """
        near = np.abs(probabilities - self.probabilities).max(1) <= limit  # false for NaN
        if several:
            return float(1 - near.mean())
        rows, best = np.arange(len(self.probabilities)), probabilities.argmax(1)
        lead = self.probabilities.max(1) - self.probabilities[rows, best]
        return float(1 - (near & (lead <= limit)).mean())


def flat(probabilities: Array) -> FloatArray:
    """Return probabilities in the form of golden outputs: of texts unchanged, of words concatenated over the texts."""
    return np.concatenate(list(probabilities)) if probabilities.dtype == object else probabilities


class _GoldenFile(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    texts: Annotated[tuple[str, ...], Field(min_length=1)]
    probabilities: tuple[tuple[float, ...], ...]


def parse_golden(data: bytes, k: int, *, words: bool = False) -> Golden:
    """Return the contents of `golden.json` of a bundle with K labels of texts, or K tags of `words`.

    Raises:
        BundleError: the file is malformed.
    """
    try:
        content = _GoldenFile.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(f"the golden outputs: {error.errors()[0]['msg']}") from error
    rows = sum(len(words_of(text)) for text in content.texts) if words else len(content.texts)
    if rows != len(content.probabilities) or any(len(row) != k for row in content.probabilities):
        raise BundleError(f"the golden outputs: probabilities do not fit {len(content.texts)} texts and {k} labels")
    return Golden(content.texts, np.array(content.probabilities))
