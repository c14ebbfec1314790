import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MarianMTModel, MarianTokenizer

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, ExtraError, MissingError, ModelError
from refsynth.core.protocols import Augmenter
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.data.text import clean
from refsynth.evaluation.trace import trace_row
from refsynth.learning.candidates import safe_for
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.synthesis.augment import (
    ApertiumTranslator,
    BackTranslator,
    NoiseAugmenter,
    Seq2SeqTranslator,
    SynonymAugmenter,
    WordNet,
    augment_rows,
    find_wordnet,
)
from refsynth.synthesis.augment.copies import distinct
from refsynth.synthesis.augment.noise import NEIGHBORS
from refsynth.synthesis.augment.wordnet import PLACES
from refsynth.synthesis.build import AUGMENTERS, make_augmenters
from tests.support.tiny_seq2seq import WORDS, make_marian

TEXTS = ["where is my card", "please return the lamp, it arrived broken!", "my parcel is not here yet"]
HAS_APERTIUM = shutil.which("apertium") is not None
HAS_WORDNET = any((Path(place) / "data.noun").is_file() for place in PLACES)


# The contract of every method


def write_wordnet(folder):
    """Write a dictionary in the format of wndb(5WN): sets of synonyms by part of speech, and tagged uses of their senses."""
    sets = {
        "noun": [["card"], ["phone", "telephone", "telephone_set"], ["buy", "bargain", "steal"]],
        "verb": [["buy", "purchase"], ["bribe", "buy"], ["phone", "call"]],
        "adj": [["big(p)", "large"], ["Roman"]],
        "adv": [["quickly", "rapidly", "speedily"]],
    }
    kinds = dict(zip(sets, "nvar", strict=True))
    for part, groups in sets.items():
        head, places = "  1 WordNet 3.0 Copyright by its authors  \n", {}
        data = head
        for group in groups:
            offset = len(data)
            words = " ".join(f"{word} 0" for word in group)
            data += f"{offset:08d} 00 {kinds[part]} {len(group):02x} {words} 000 | what it means  \n"
            for word in group:
                places.setdefault(word.partition("(")[0].lower(), []).append(offset)
        (folder / f"data.{part}").write_text(data, encoding="utf-8")
        lines = [
            f"{word} {kinds[part]} {len(found)} 0 {len(found)} 0 {' '.join(f'{each:08d}' for each in found)}  \n"
            for word, found in sorted(places.items())
        ]
        (folder / f"index.{part}").write_text(head + "".join(lines), encoding="utf-8")
    uses = ["phone%1:06:00:: 1 3", "phone%2:32:00:: 1 3", "buy%2:40:00:: 1 9", "buy%2:40:01:: 2 2", "buy%1:06:00:: 1 1"]
    (folder / "cntlist.rev").write_text("\n".join(uses) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    return WordNet(write_wordnet(tmp_path_factory.mktemp("wordnet")))


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    return make_marian(tmp_path_factory.mktemp("marian") / "model")


@pytest.fixture(scope="module")
def methods(wordnet, marian):
    return [NoiseAugmenter(), SynonymAugmenter(wordnet), BackTranslator(Seq2SeqTranslator(marian), Seq2SeqTranslator(marian))]


@pytest.mark.parametrize("place", range(3))
def test_copies_differ_from_their_text_and_from_one_another(methods, place):
    method = methods[place]
    assert isinstance(method, Augmenter) and method.name
    texts = [*TEXTS, "buy a big phone quickly", "", "   ", "😀", "我的卡在哪里？", "[x] ^y$ \\ {z} <b>"]
    copies = method.augment(texts, n=3, seed=7)
    assert copies == method.augment(texts, n=3, seed=7)
    assert len(copies) == len(texts)
    assert any(copies)
    for text, row in zip(texts, copies, strict=True):
        assert len(row) <= 3
        assert len({clean(text), "", *row}) == len(row) + len({clean(text), ""})
    assert method.augment([], n=3, seed=7) == []


@given(st.text(max_size=40), st.lists(st.text(max_size=6), max_size=8), st.integers(0, 5))
def test_distinct_gives_only_what_is_new(text, candidates, n):
    fresh = distinct(text, [text, *candidates, *candidates], n=n)
    assert len(fresh) == len(set(fresh)) == min(n, len({*map(clean, candidates)} - {clean(text), ""}))


# Noise


@given(st.text(max_size=60), st.integers(0, 2**31 - 1))
def test_noise_copies_never_fail_and_are_new(text, seed):
    copies = NoiseAugmenter().augment([text], n=4, seed=seed)[0]
    assert len({clean(text), *copies}) == len(copies) + 1
    assert NoiseAugmenter().augment(["beside it", text], n=4, seed=seed)[1] == copies


def test_noise_changes_with_the_seed_and_spares_what_decides():
    text = "order 12345 for 3.50 to me@context.org was refused yesterday evening without any explanation"
    copies = NoiseAugmenter().augment([text], n=20, seed=1)[0]
    assert copies != NoiseAugmenter().augment([text], n=20, seed=2)[0]
    for copy in copies:
        assert {"12345", "3.50", "me@context.org"} <= set(copy.lower().split())


def test_neighbours_are_mutual_and_near():
    assert set(NEIGHBORS["s"]) == set("awedxz")
    assert all(key in NEIGHBORS[other] for key, around in NEIGHBORS.items() for other in around)


def test_the_rate_of_slips_is_what_it_says():
    text = "a" * 4000
    copy = NoiseAugmenter().augment([text], n=1, seed=0)[0][0].lower()
    # of the four slips a swap is not seen here, a doubled letter adds one and a dropped one takes one
    assert 0.08 / 4 * 0.6 < sum(letter != "a" for letter in copy) / 4000 < 0.08 / 4 * 1.4


# Synonyms


@pytest.mark.parametrize(
    ("word", "others"),
    [
        ("buy", ("purchase",)),  # 9 of 12 tagged uses
        ("quickly", ("rapidly", "speedily")),  # never tagged, one sense
        ("large", ("big",)),
        ("phone", ("telephone", "telephone set")),  # a draw at one half: the first
        ("steal", ("buy", "bargain")),
        ("card", ()),
        ("roman", ()),  # names are nobody's synonym
        ("nonsense", ()),
    ],
)
def test_synonyms_are_those_of_the_usual_sense(wordnet, word, others):
    assert wordnet.synonyms(word) == others
    assert wordnet.version == "3.0"


def test_only_base_forms_of_content_words_are_replaced(wordnet):
    copies = SynonymAugmenter(wordnet).augment(
        ["Buy it quickly", "the Buy and Large company", "well-bought pre-buy's buying", "quickly!"], n=9, seed=0
    )
    assert {tuple(copy.split())[1:2] for copy in copies[0]} == {("it",)}
    assert any(copy.startswith("Purchase ") for copy in copies[0])
    assert copies[1] == copies[2] == []
    assert sorted(copies[3]) == ["rapidly!", "speedily!"]


def test_a_missing_dictionary_names_the_install_line(monkeypatch, tmp_path):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(ExtraError, match="apt-get install wordnet-base"):
        find_wordnet()
    write_wordnet(tmp_path)
    assert find_wordnet() == tmp_path


@pytest.mark.skipif(not HAS_WORDNET, reason="no WordNet dictionary is installed")
def test_the_installed_dictionary(monkeypatch):
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    dictionary = WordNet(find_wordnet())
    assert "purchase" in dictionary.synonyms("buy")
    assert "movie" in dictionary.synonyms("film")
    assert dictionary.synonyms("card") == ()  # it has senses, none of them usual
    assert SynonymAugmenter(dictionary).augment(["nobody can answer the phone"], n=2, seed=0)[0]


# Back-translation by Apertium

# Words that Apertium moves about, and signs that its stream format gives a meaning to.
STREAM_WORDS = ["the", "new", "red", "house", "car", "I", "am not", "where", "...", ".", "*", "-", "é", "日本", "😀", "<b>"]
STREAM_WORDS += list("[]^$\\/{}@#")

ENGINE = """#!/bin/sh
case "$1" in
  -l) echo "  eng-spa"; echo "  spa-eng"; echo "  eo-en" ;;
  -V) echo "Apertium 9.9" ;;
  *) %s ;;
esac
"""


def put_engine(folder, monkeypatch, work):
    folder.mkdir(exist_ok=True)
    (folder / "apertium").write_text(ENGINE % work, encoding="utf-8")
    (folder / "apertium").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_missing_engine_names_the_install_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExtraError, match="apt-get install apertium apertium-eng-spa"):
        ApertiumTranslator("en", "es")


def test_a_missing_pair_names_those_that_are_there(monkeypatch, tmp_path):
    put_engine(tmp_path, monkeypatch, "cat")
    with pytest.raises(ExtraError, match=r"(?s)no pair en-fr here.*eng-spa, spa-eng.*apertium-eng-fra"):
        ApertiumTranslator("en", "fr")
    assert ApertiumTranslator("en", "spa").name == "apertium 9.9 eng-spa"
    assert ApertiumTranslator("eo", "eng").name == "apertium 9.9 eo-en"


def test_texts_keep_their_places_even_where_the_engine_mixes_them_up(monkeypatch, tmp_path):
    put_engine(tmp_path, monkeypatch, "tr '[:lower:]' '[:upper:]'")
    translator = ApertiumTranslator("en", "es")
    assert translator.translate(["one", "", "two\nlines", " "], n=1) == [["ONE"], [], ["TWO LINES"], []]
    put_engine(tmp_path, monkeypatch, "tr -d '\\n' | tr '[:lower:]' '[:upper:]'")  # the blank lines are gone
    assert translator.translate(["one", "two"], n=1) == [["ONE"], ["TWO"]]


def test_an_engine_that_fails_is_an_error_without_the_text(monkeypatch, tmp_path):
    put_engine(tmp_path, monkeypatch, "cat; exit 1")
    with pytest.raises(MissingError, match="failed") as caught:
        ApertiumTranslator("en", "es").translate(["secret words"], n=1)
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def apertium():
    try:
        return BackTranslator(ApertiumTranslator("en", "es"), ApertiumTranslator("es", "en"))
    except ExtraError as error:
        pytest.skip(error.found)


def test_apertium_translates_there_and_back(apertium):
    copies = apertium.augment(["My package has not arrived and nobody answers the phone.", "Where is my card?"], n=3, seed=0)
    assert all(len(row) == 1 for row in copies)
    assert "has not arrived" in copies[0][0] and "telephone" in copies[0][0]
    assert "apertium 3" in apertium.name and "eng-spa" in apertium.name and "spa-eng" in apertium.name


@settings(max_examples=4)
@given(st.lists(st.sampled_from(STREAM_WORDS), min_size=6, max_size=15))
@pytest.mark.skipif(not HAS_APERTIUM, reason="apertium is not installed")
def test_no_word_crosses_from_text_to_text(apertium, words):
    texts = [" ".join(words[start : start + 3]) for start in range(0, len(words), 3)][:6]
    translator = apertium._forward
    assert translator.translate(texts, n=1) == [translator.translate([text], n=1)[0] for text in texts]


# Back-translation by a model


def test_the_model_answers_as_it_does_in_torch(marian):
    tokenizer = MarianTokenizer.from_pretrained(marian.parent / "hf")
    model = MarianMTModel.from_pretrained(marian.parent / "hf").eval()
    translations = Seq2SeqTranslator(marian).translate(TEXTS, n=4)
    words = torch.arange(2, model.config.vocab_size - 1)  # neither end, unknown nor padding
    for text, row in zip(TEXTS, translations, strict=True):
        asked = tokenizer(text, return_tensors="pt").input_ids
        with torch.inference_mode():  # the likeliest sentences of one word, which is what so small a model answers
            labels = torch.stack([words, torch.zeros_like(words)], 1)
            logits = model(input_ids=asked.expand(len(words), -1), labels=labels).logits
            score = logits.log_softmax(-1).gather(-1, labels[..., None]).sum((1, 2))
        likely = [tokenizer.decode([int(words[place])]).strip() for place in score.argsort(descending=True)]
        assert row[0] == likely[0]
        assert set(row) <= set(likely[:8])
    assert len({tuple(row) for row in translations}) > 1
    assert Seq2SeqTranslator(marian).translate(TEXTS[:1], n=4) == translations[:1]
    assert Seq2SeqTranslator(marian).translate(["card " * 300, ""], n=1) == [[], []]  # too long, and nothing


def test_words_before_the_text_give_the_direction(marian):
    plain, told = Seq2SeqTranslator(marian), Seq2SeqTranslator(marian, prefix="please return the ")
    said = told.translate(WORDS, n=3)
    assert said == plain.translate([f"please return the {text}" for text in WORDS], n=3)
    assert said != plain.translate(WORDS, n=3)
    assert told.name != plain.name


def test_a_folder_without_a_model_is_refused(tmp_path, marian):
    with pytest.raises(ModelError, match="ct2-transformers-converter"):
        Seq2SeqTranslator(tmp_path)
    broken = shutil.copytree(marian, tmp_path / "broken")
    (broken / "model.bin").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="does not load"):
        Seq2SeqTranslator(broken)
    bare = shutil.copytree(marian, tmp_path / "bare", ignore=shutil.ignore_patterns("*.spm", "tokenizer*", "vocab*"))
    with pytest.raises(ModelError, match="does not load"):
        Seq2SeqTranslator(bare)


# Rows, configuration, run


class Numbered:
    def __init__(self, name, many):
        self.name, self.many = name, many

    def augment(self, texts, *, n, seed):
        return [[f"{text} {self.name} {i}" for i in range(min(n, self.many))] for text in texts]


def test_methods_share_the_quota_and_every_copy_knows_its_row():
    rows = [Example(f"row-{i}", text, "ab"[i % 2]) for i, text in enumerate(TEXTS)]
    made = augment_rows(rows, [Numbered("x", 9), Numbered("y", 1), Numbered("z", 0)], copies=4, seed=3)
    assert Counter(draft.provenance.reference for draft in made.drafts) == {"x": 9, "y": 3}
    by_id = {row.id: row for row in rows}
    prompts = {record["prompt"]: record for record in made.prompts}
    for draft in made.drafts:
        (row,) = draft.provenance.shown
        assert draft.label == by_id[row].label and draft.text.startswith(by_id[row].text)
        assert prompts[draft.provenance.prompt]["text"] == by_id[row].text
    assert len({draft.id for draft in made.drafts}) == len(made.drafts) == 12
    assert augment_rows(rows[1:], [Numbered("x", 9)], copies=2, seed=3).drafts == tuple(
        draft for draft in augment_rows(rows, [Numbered("x", 9)], copies=2, seed=3).drafts if draft.provenance.shown != ("row-0",)
    )
    assert augment_rows([], [NoiseAugmenter()], copies=4, seed=3).drafts == ()


def config(*augment, **changes):
    return RunConfig.parse({"labels": ["a", "b"], "synthesis": {"augment": list(augment)}, **changes})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("nosie", "augment.0: found 'nosie', known are noise, synonyms; did you mean 'noise'?"),
        ({"translate": "apertium"}, "'synthesis.augment.0.pivot' is missing"),
        ({"translate": "apertium", "pivot": "es", "pivo": "x"}, "did you mean 'pivot'?"),
        ({"translate": "ctranslate2", "forward": "a", "bak": "b"}, "did you mean 'back'?"),
        ({"translate": "babelfish"}, "expected noise, synonyms, {translate: apertium"),
        (3, "expected noise, synonyms, {translate: apertium"),
    ],
)
def test_a_wrong_method_is_told_of_its_own_kind_only(method, message):
    with pytest.raises(ConfigError) as caught:
        config(method)
    assert message in str(caught.value)
    assert str(caught.value).count("synthesis.augment") <= 2


def test_the_table_has_every_named_method(monkeypatch, wordnet, marian):
    monkeypatch.setenv("WNSEARCHDIR", str(wordnet._folder))
    made = make_augmenters(config(*AUGMENTERS), "en")
    assert [type(method) for method in made] == [NoiseAugmenter, SynonymAugmenter]
    models = {"translate": "ctranslate2", "forward": str(marian), "back": str(marian), "back_prefix": "x "}
    assert make_augmenters(config(models), "de")[0].name.count("ctranslate2") == 2
    with pytest.raises(ConfigError, match="supports only 'en', and the texts are 'de'"):
        make_augmenters(config("synonyms"), "de")
    with pytest.raises(ConfigError, match="could not be detected"):
        make_augmenters(config({"translate": "apertium", "pivot": "es"}), "xx")


def make_task(folder, *augment):
    words = {"late": "parcel late courier waiting tracking delivery", "broken": "broken crack pieces shattered dent scratched"}
    lines = [
        json.dumps({"text": f"number {i} the {' '.join(text.split()[i % 3 : i % 3 + 4])} again", "label": label})
        for label, text in words.items()
        for i in range(6)
    ]
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tree = {
        "language": "en",
        "labels": list(words),
        "data": {"train": str(folder / "train.jsonl")},
        "reference": "echo",
        "synthesis": {"drafts": 0, "augment": list(augment), "copies": 3},
        "learners": ["tfidf"],
        "gate": {"folds": 3},
    }
    return Task.of(RunConfig.parse(tree))


def test_augmented_rows_take_the_way_of_drafts(tmp_path, tiny_cache):
    result = run(make_task(tmp_path, "noise"), tmp_path / "out", store=ModelStore(tiny_cache))
    learned = result.evidence.learned
    assert learned.written.reference == NoiseAugmenter.name
    assert 0 < learned.written.asked == len(learned.written.drafts) <= 36
    assert max(Counter(draft.provenance.shown for draft in learned.written.drafts).values()) <= 3
    held = frozenset({learned.rows.examples[0].id})
    gone = {draft.example.id for draft in learned.screened} - {draft.example.id for draft in safe_for(learned.screened, held)}
    assert gone == {draft.id for draft in learned.written.drafts if draft.provenance.shown == tuple(held)} != set()
    story = trace_row(tmp_path / "out", sorted(gone)[0])
    assert story["prompt"] == learned.rows.examples[0].text
    assert story["reference"] == NoiseAugmenter.name
    assert any(draft.dropped is None for draft in learned.screened)
    drafts = result.report.drafts
    assert drafts is not None and drafts.kept + sum(drafts.dropped.values()) == drafts.asked
    if drafts.kept:
        assert drafts.coverage is not None and drafts.coverage.n == 12


def test_what_is_missing_is_told_before_drafts_are_written(tmp_path, tiny_cache, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(ExtraError, match="wordnet-base"):
        run(make_task(tmp_path, "synonyms"), tmp_path / "out", store=ModelStore(tiny_cache))
