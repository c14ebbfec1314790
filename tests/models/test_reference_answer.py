"""What chat models answer, taken apart: each row is an answer as models give it, and the texts in it."""

import pytest

from refsynth.models.reference.answer import is_preamble, is_refusal, refuses, texts_of

TWO = ["My parcel is late.", "Where is order 5?"]

ANSWERS = {
    "numbers": "1. My parcel is late.\n2. Where is order 5?",
    "parentheses": "1) My parcel is late.\n2) Where is order 5?",
    "bold numbers": "**1.** My parcel is late.\n**2.** Where is order 5?",
    "bullets": "- My parcel is late.\n- Where is order 5?",
    "stars": "* My parcel is late.\n* Where is order 5?",
    "dots": "• My parcel is late.\n• Where is order 5?",
    "blank lines": "1. My parcel is late.\n\n2. Where is order 5?\n",
    "plain lines": "My parcel is late.\nWhere is order 5?",
    "quoted lines": '"My parcel is late."\n"Where is order 5?"',
    "quoted lines with commas": '"My parcel is late.",\n"Where is order 5?"',
    "curly quotes": "“My parcel is late.”\n“Where is order 5?”",
    "quoted numbers": '1. "My parcel is late."\n2. "Where is order 5?"',
    "array": '["My parcel is late.", "Where is order 5?"]',
    "array on lines": '[\n  "My parcel is late.",\n  "Where is order 5?"\n]',
    "object": '{"texts": ["My parcel is late.", "Where is order 5?"]}',
    "objects": '[{"id": 1, "text": "My parcel is late."}, {"id": 2, "text": "Where is order 5?"}]',
    "lines of objects": '{"text": "My parcel is late."}\n{"text": "Where is order 5?"}',
    "fence": '```json\n["My parcel is late.", "Where is order 5?"]\n```',
    "fence of lines": "Here you go:\n```\n1. My parcel is late.\n2. Where is order 5?\n```\nDo you want more?",
    "open fence": '```json\n["My parcel is late.", "Where is order 5?"]',
    "cut array": '["My parcel is late.", "Where is order 5?", "And the thi',
    "preamble": "Sure! Here are 2 messages:\n\n1. My parcel is late.\n2. Where is order 5?",
    "preamble and plain lines": "Certainly! Here are two different texts:\n\nMy parcel is late.\nWhere is order 5?",
    "preamble and array": 'Here is the list you asked for:\n["My parcel is late.", "Where is order 5?"]',
    "only sure": "Sure!\nMy parcel is late.\nWhere is order 5?",
    "chinese preamble": "当然，以下是两条文本：\n1、My parcel is late.\n2、Where is order 5?",
    "german preamble": "Natürlich! Hier sind zwei Texte:\nMy parcel is late.\nWhere is order 5?",
    "ending": "1. My parcel is late.\n2. Where is order 5?\n\nLet me know if you need more!",
    "ending of plain lines": "My parcel is late.\nWhere is order 5?\nLet me know if you would like more variations.",
    "heading": "### Texts\n\n- My parcel is late.\n- Where is order 5?",
    "bold heading": "**Customer messages:**\nMy parcel is late.\nWhere is order 5?",
    "one line": "Sure! Here are two: 1. My parcel is late. 2. Where is order 5?",
    "goes on": "1. My parcel\n   is late.\n2. Where is order 5?",
    "labels": "Text 1: My parcel is late.\nText 2: Where is order 5?",
    "thought": "<think>They want two.\n1. Maybe this</think>\n1. My parcel is late.\n2. Where is order 5?",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_texts_are_found_in_every_form(answer):
    assert texts_of(answer) == TWO and not refuses(answer, 2) and not refuses(answer, 16)


@pytest.mark.parametrize(
    "text",
    [
        "[Lee](person) moved to [Rome](place).",
        "3.5 stars is what I give.",
        "10:30 is when it came.",
        "Sure, I would like to cancel my order.",
        "Here is my order number, where is the parcel?",
        'I\'m the "lucky" owner of a broken lamp.',
        "{name}, where is my parcel?",
        "I hope this parcel comes tomorrow.",
        "I can't create an account.",
        "I'm sorry, but I can't log in to my account.",
        "I cannot write to support, the page is blank.",
        "Sorry, I can't help it, this phone is bad.",
        "Here is a list of what was missing.",
        "Yes, I have not received my card.",
        "OK, I will wait for these parcels.",
        "Great, here is my order number: 1234",
        "好的，我的订单什么时候到？",
        "Yes.",
        "It's 'urgent'",
    ],
)
def test_a_text_that_looks_like_form_stays_as_it_is(text):
    assert texts_of(f"My parcel is late.\n{text}\nWhere is order 5?") == ["My parcel is late.", text, "Where is order 5?"]
    assert texts_of(f"1. My parcel is late.\n2. {text}") == ["My parcel is late.", text]
    assert not is_refusal(text) and not is_preamble(text)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "Sorry, I can't generate content of this kind.",
        "I cannot create content of this kind.",
        "As an AI language model, I do not have parcels.",
        "I apologize, but I am not able to write such messages.",
        "抱歉，我无法提供这些内容。",
    ],
)
def test_a_refusal_is_one_wherever_it_stands(answer):
    assert is_refusal(answer) and refuses(answer, 1)
    assert refuses(answer + "\n\nIs there something else you need?", 8)


def test_being_sorry_is_a_refusal_only_where_far_more_was_wanted():
    sorry = "I'm sorry, this is against my guidelines."
    assert refuses(sorry, 8) and not refuses(sorry, 1) and not is_refusal(sorry)
    assert refuses("Sorry, I can't generate complaints about real companies.\nAnything else?", 8)
    for texts in (
        ["I'm sorry, but I cannot log in.", "Sorry, I lost my card."],
        ["I can't log in.", "Where is it?", "My app is slow."],
    ):
        assert not refuses("\n".join(texts), len(texts))
        assert not refuses("\n".join(f"{place}. {text}" for place, text in enumerate(texts, start=1)), 16)
        assert not any(map(is_refusal, texts))


@pytest.mark.parametrize("answer", ["", " \n\n", "```\n```", "<think>so much to think", "Sure! Here are 5 texts:", "[]", "{}"])
def test_an_answer_without_texts(answer):
    assert texts_of(answer) == [] and not refuses(answer, 8)


@pytest.mark.parametrize("answer", ["[" * 100_000, '["' * 50_000, "1. " * 20_000, "\x00", "**" * 9_000, "'" * 10_000])
def test_nonsense_is_read_in_no_time(answer):
    texts_of(answer)
    refuses(answer, 8)
