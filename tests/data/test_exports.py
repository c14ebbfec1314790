"""Exports of the tools that people label with: each says the same as plain rows, or is refused by its name."""

import itertools
import json
import random
from contextlib import suppress

import polars as pl
import pytest
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.core.config import RunConfig
from refsynth.core.errors import DataError
from refsynth.core.sections import Columns
from refsynth.data.formats import open_table
from refsynth.data.io import read_examples
from refsynth.data.rows import BadRow, iter_rows
from refsynth.data.schemes import spans_of_tags
from refsynth.data.sniff import sniff, sniff_tagged
from refsynth.data.write import write_table

TEXT, SPANS = "Mia Wolf flew to Graz", "0-2:person 4-5:place"
OTHER = "all quiet here"
PLACES = [{"start": 0, "end": 8, "label": "person"}, {"start": 17, "end": 21, "label": "place"}]
TOKENS = TEXT.split()
LABELS = ("person", "place")


def write(path, rows):
    path.write_text(
        rows if isinstance(rows, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8"
    )
    return path


def studio(*results, **extra):
    """A task of Label Studio with an annotation for each list of results."""
    given = [{"id": n, "result": list(each)} if isinstance(each, (list, tuple)) else each for n, each in enumerate(results)]
    return {"id": 7, "data": {"text": TEXT}, "annotations": given, "predictions": [], **extra}


def span(start, end, label, text=None):
    return {"type": "labels", "from_name": "ner", "value": {"start": start, "end": end, "text": text, "labels": [label]}}


def choice(*names):
    return {"type": "choices", "from_name": "topic", "to_name": "text", "value": {"choices": list(names)}}


BOTH = [span(0, 8, "person", "Mia Wolf"), span(17, 21, "place", "Graz")]
FLAT = {"text": TEXT, "ner.responses": [PLACES], "ner.responses.status": ["submitted"], "ner.suggestion": None}
WORDS = {
    "label studio.json": json.dumps([studio(BOTH), studio([], data={"text": OTHER})], indent=2),
    "label studio min.json": json.dumps(
        [{"text": TEXT, "ner": [one["value"] for one in BOTH], "annotator": 1}, {"text": OTHER, "ner": [], "annotator": 1}]
    ),
    "label studio.csv": 'id,ner,text\n1,"'
    + json.dumps([one["value"] for one in BOTH]).replace('"', '""')
    + f'",{TEXT}\n2,[],{OTHER}\n',
    "doccano.jsonl": [
        {
            "id": 1,
            "text": TEXT,
            "relations": [],
            "entities": [
                {"id": 5, "label": one["label"], "start_offset": one["start"], "end_offset": one["end"]} for one in PLACES
            ],
        },
        {"id": 2, "text": OTHER, "relations": [], "entities": []},
    ],
    "doccano labels.jsonl": [{"text": TEXT, "labels": [[0, 8, "person"], [17, 21, "place"]]}, {"text": OTHER, "labels": []}],
    "argilla.jsonl": [
        {"id": "a", "fields": {"text": TEXT}, "suggestions": {}, "responses": {"ner": [{"value": PLACES, "user_id": "u"}]}},
        {"id": "b", "fields": {"text": OTHER}, "suggestions": {}, "responses": {"ner": [{"value": [], "user_id": "u"}]}},
    ],
    "argilla flat.json": json.dumps([FLAT, {**FLAT, "text": OTHER, "ner.responses": [[]]}]),
    "argilla 1.jsonl": [
        {
            "text": TEXT,
            "tokens": TOKENS,
            "prediction": None,
            "annotation": [["person", 0, 8], ["place", 17, 21]],
            "status": "Validated",
        },
        {"text": OTHER, "tokens": OTHER.split(), "prediction": None, "annotation": [], "status": "Validated"},
    ],
    "prodigy.jsonl": [
        {
            "text": TEXT,
            "_task_hash": 1,
            "tokens": [{"text": "Mia", "start": 0, "end": 3, "id": 0}],
            "answer": "accept",
            "spans": [{**one, "token_start": 0} for one in PLACES],
        },
        {"text": OTHER, "_task_hash": 2, "spans": [], "answer": "accept"},
    ],
    "spacy.json": json.dumps([[TEXT, {"entities": [[0, 8, "person"], [17, 21, "place"]]}], [OTHER, {"entities": []}]]),
    "spacy.jsonl": [[TEXT, {"entities": [[0, 8, "person"], [17, 21, "place"]]}], [OTHER, {"entities": []}]],
    "spacy doc.jsonl": [{"text": TEXT, "ents": PLACES, "cats": {}}, {"text": OTHER, "ents": [], "cats": {}}],
    "hugging face.jsonl": [
        {"tokens": TOKENS, "ner_tags": ["B-person", "I-person", "O", "O", "B-place"]},
        {"tokens": OTHER.split(), "ner_tags": ["O", "O", "O"]},
    ],
    "lists in cells.csv": f"tokens,ner_tags\n"
    f"\"{TOKENS}\",\"['B-person', 'I-person', 'O', 'O', 'B-place']\"\n\"{OTHER.split()}\",\"['O', 'O', 'O']\"\n",
    "conll2003.txt": "-DOCSTART- -X- -X- O\n\nMia NNP I-NP B-person\nWolf NNP I-NP I-person\n"
    "flew V O O\nto P O O\nGraz NNP I-NP B-place\n\n"
    "all D O O\nquiet A O O\nhere R O O\n",
    "bilou.tsv": "Mia\tB-person\nWolf\tL-person\nflew\tO\nto\tO\nGraz\tU-place\n\nall\tO\nquiet\tO\nhere\tO\n",
    "comments.conll": "# newdoc\n# text = Mia Wolf flew to Graz\nMia\tB-person\nWolf\tE-person\nflew\tO\nto\tO\nGraz\tS-place\n\n"
    "# a note\nall\tO\nquiet\tO\nhere\tO\n",
    "counted.conll": "1\tMia\tB-person\n2\tWolf\tI-person\n3\tflew\tO\n4\tto\tO\n5\tGraz\tB-place\n"
    "\n1\tall\tO\n2\tquiet\tO\n3\there\tO\n",
    "universal.conllu": "# sent_id = 1\n"
    + "".join(
        f"{n}\t{word}\t_\t_\t_\t_\t_\t_\t_\t{misc}\n"
        for n, (word, misc) in enumerate(
            zip(TOKENS, ["NER=B-person", "SpaceAfter=No|NER=I-person", "_", "_", "NER=B-place"], strict=True), 1
        )
    )
    + "\n1-2\tallquiet\t_\t_\t_\t_\t_\t_\t_\t_\n"
    + "".join(f"{n}\t{word}\t_\t_\t_\t_\t_\t_\t_\t_\n" for n, word in enumerate(OTHER.split(), 1)),
    "kaggle.csv": "Sentence #,Word,POS,Tag\n1,Mia,N,B-person\n,Wolf,N,I-person\n,flew,V,O\n,to,P,O\n"
    ",Graz,N,B-place\n2,all,D,O\n,quiet,A,O\n,here,R,O\n",
    "token a row.tsv": "sent_id\ttoken\tner\n0\tMia\tB-person\n0\tWolf\tI-person\n0\tflew\tO\n"
    "0\tto\tO\n0\tGraz\tB-place\n1\tall\tO\n1\tquiet\tO\n1\there\tO\n",
}


@pytest.mark.parametrize("name", WORDS)
def test_words_of_all_tools_say_the_same_after_init(tmp_path, name):
    path = write(tmp_path / name, WORDS[name])
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path)])
    assert done.exit_code == 0, done.output
    config = RunConfig.load(tmp_path / "task" / "task.yaml")
    assert config.task == "tokens"
    loaded = read_examples(path, labels=LABELS, columns=config.data.columns, spans="marked", least_labels=1)
    assert [(row.text, row.label) for row in loaded.examples] == [(TEXT, SPANS), (OTHER, "(none)")]
    read = list(iter_rows(path, columns=config.data.columns, spans="marked"))
    assert [(row.text, row.label) for row in read] == [(TEXT, SPANS), (OTHER, "(none)")]


CHOICES = {
    "label studio.json": json.dumps([studio([choice("place")]), studio([choice("person")], data={"text": OTHER})]),
    "label studio twice.json": json.dumps(
        [studio([choice("place")], [choice("place")]), studio([choice("person")], data={"text": OTHER})]
    ),
    "doccano.jsonl": [
        {"text": TEXT, "annotations": [{"label": "place", "user": 1}]},
        {"text": OTHER, "annotations": [{"label": "person"}]},
    ],
    "argilla.jsonl": [
        {
            "id": 1,
            "fields": {"text": TEXT},
            "responses": {"topic": [{"value": "place"}]},
            "suggestions": {"topic": {"value": "person"}},
        },
        {"id": 2, "fields": {"text": OTHER}, "responses": {"topic": [{"value": "person"}]}, "suggestions": {}},
    ],
    "argilla feedback.jsonl": [
        {
            "text": text,
            "topic": [
                {"user_id": "u", "value": label, "status": "submitted"},
                {"user_id": "v", "value": "x", "status": "discarded"},
            ],
            "topic-suggestion": "x",
        }
        for text, label in ((TEXT, "place"), (OTHER, "person"))
    ],
    "argilla 1.jsonl": [
        {"text": text, "prediction": [["x", 0.9]], "annotation": label, "status": "Validated"}
        for text, label in ((TEXT, "place"), (OTHER, "person"))
    ],
    "prodigy choice.jsonl": [
        {"text": text, "options": [{"id": "place"}, {"id": "person"}], "accept": [label], "answer": "accept"}
        for text, label in ((TEXT, "place"), (OTHER, "person"))
    ],
    "prodigy.jsonl": [
        {"text": text, "label": label, "answer": "accept", "_input_hash": 1}
        for text, label in ((TEXT, "place"), (OTHER, "person"))
    ],
    "spacy.jsonl": [
        [text, {"cats": {"place": float(label == "place"), "person": float(label == "person")}}]
        for text, label in ((TEXT, "place"), (OTHER, "person"))
    ],
}


@pytest.mark.parametrize("name", CHOICES)
def test_labels_of_texts_are_read_from_all_tools(tmp_path, name):
    loaded = read_examples(write(tmp_path / name, CHOICES[name]), labels=LABELS)
    assert [(row.text, row.label) for row in loaded.examples] == [(TEXT, "place"), (OTHER, "person")]


SEVERAL = {
    "label studio.json": json.dumps([studio([choice("place", "person")]), studio([choice("place")], data={"text": OTHER})]),
    "label studio min.json": json.dumps(
        [{"text": TEXT, "label": {"choices": ["place", "person"]}}, {"text": OTHER, "label": "place"}]
    ),
    "label studio.csv": "text,label\n" + TEXT + ',"{""choices"": [""place"", ""person""]}"\n' + OTHER + ",place\n",
    "prodigy.jsonl": [
        {"text": TEXT, "accept": ["person", "place"], "options": [], "answer": "accept"},
        {"text": OTHER, "accept": ["place"], "options": [], "answer": "accept"},
    ],
    "spacy.jsonl": [[TEXT, {"cats": {"place": 1, "person": True}}], [OTHER, {"cats": {"place": 0.7, "person": 0.1}}]],
    "argilla.jsonl": [
        {"fields": {"text": TEXT}, "responses": {"q": [{"value": ["place", "person"]}, {"value": ["person", "place"]}]}},
        {"fields": {"text": OTHER}, "responses": {"q": [{"value": ["place"]}]}},
    ],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_labels_of_a_text_are_read_from_all_tools(tmp_path, name):
    loaded = read_examples(write(tmp_path / name, SEVERAL[name]), labels=LABELS, separator="|")
    assert [(row.text, row.label) for row in loaded.examples] == [(TEXT, "person + place"), (OTHER, "place")]


LEFT = {
    "cancelled": (studio({"result": [choice("place")], "was_cancelled": True}), "not accepted"),
    "differ": (studio([choice("place")], [choice("person")]), "annotators differ"),
    "ground truth": (studio([choice("place")], {"result": [choice("person")], "ground_truth": True}), None),
    "one cancelled": (studio([choice("person")], {"result": [choice("place")], "was_cancelled": True}), None),
    "predicted": (studio(predictions=[{"result": [choice("place")]}]), "only suggested"),
    "untouched": (studio(), "no label"),
    "rejected": ({"text": TEXT, "label": "place", "answer": "reject"}, "not accepted"),
    "ignored": ({"text": TEXT, "spans": PLACES, "answer": "ignore"}, "not accepted"),
    "discarded": ({"text": TEXT, "annotation": "place", "prediction": None, "status": "Discarded"}, "not accepted"),
    "suggested 1": ({"text": TEXT, "annotation": None, "prediction": [["place", 1]], "status": "Default"}, "only suggested"),
    "suggested": ({"fields": {"text": TEXT}, "responses": {}, "suggestions": {"q": {"value": "place"}}}, "only suggested"),
    "draft": ({"fields": {"text": TEXT}, "responses": {"q": [{"value": "place", "status": "draft"}]}}, "not accepted"),
    "argilla differs": ({"text": TEXT, "q.responses": ["place", "person"], "q.suggestion": "place"}, "annotators differ"),
    "an answer of one's own": ({"text": TEXT, "label": "person", "answer": "42"}, None),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_people_left_out_is_no_label(tmp_path, name):
    row, reason = LEFT[name]
    rows = [row, {"text": "b b", "label": "person"}, {"text": "c c", "label": "place"}]
    loaded = read_examples(write(tmp_path / "rows.jsonl", rows), labels=LABELS)
    assert [one.reason for one in loaded.skipped] == ([reason] if reason else [])
    if reason is None:
        assert (loaded.examples[0].text, loaded.examples[0].label) == (TEXT, "person")
    else:
        assert any(reason in note for note in loaded.notes)
    assert not any(isinstance(one, BadRow) for one in iter_rows(tmp_path / "rows.jsonl"))


REFUSED = {
    "numbers of doccano": (
        {"text": TEXT, "annotations": [{"label": 3, "start_offset": 0, "end_offset": 8}]},
        "doccano.*numbers of the project",
    ),
    "html": (
        studio(
            [
                {
                    "type": "hypertextlabels",
                    "from_name": "ner",
                    "value": {"start": "/p[1]/text()[1]", "end": "/p[1]", "hypertextlabels": ["person"]},
                }
            ]
        ),
        "Label Studio: a span in HTML",
    ),
    "two labels": (
        studio([{"type": "labels", "from_name": "ner", "value": {"start": 0, "end": 3, "labels": ["person", "place"]}}]),
        "a span with 2 labels",
    ),
    "paragraphs": ({"id": 0, "paragraphs": [{"raw": TEXT}]}, "spaCy.*in paragraphs"),
    "broken": (studio("oops"), "Label Studio: not written as that tool does"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_words_here_is_refused_by_its_name(tmp_path, name):
    row, message = REFUSED[name]
    path = write(tmp_path / "rows.jsonl", [{"text": "[Ann](person) sat"}, row])
    with pytest.raises(DataError, match=f"row 2: .*{message}"):
        read_examples(path, labels=LABELS, spans="marked", least_labels=1)


def test_what_is_not_read_is_told(tmp_path):
    entities = [{"label": "person", "start_offset": 0, "end_offset": 8}]
    rows = [{"text": TEXT, "entities": entities, "relations": [{"from_id": 1, "to_id": 2}]},
            {**studio([*BOTH, {"type": "relation", "from_id": "a"}]), "data": {"text": TEXT + " again"}}]  # fmt: skip
    path = write(tmp_path / "rows.jsonl", rows)
    loaded = read_examples(path, labels=LABELS, spans="marked", least_labels=1)
    assert "not read: relations, in 1 row" in loaded.notes
    assert "not read: relation, in 1 row" in loaded.notes
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path)])
    assert "not read: relations" in done.output


# Tags


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-a I-a O B-b", "0-2:a 3-4:b"),
        ("I-a I-a B-a I-b", "0-2:a 2-3:a 3-4:b"),
        ("B-a E-a S-b S-b", "0-2:a 2-3:b 3-4:b"),
        ("B-a I-a L-a U-a", "0-3:a 3-4:a"),
        ("B-a M-a E-a O", "0-3:a"),
        ("B_a I_a o _", "0-2:a"),
        ("a a O b", "0-2:a 3-4:b"),
        ("S-a I-a O B-x-y", "0-1:a 1-2:a 3-4:x-y"),
    ],
)
def test_schemes_of_tags(tags, found):
    assert " ".join(f"{one.start}-{one.end}:{one.label}" for one in spans_of_tags(tags.split())) == found


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["E-a", "O"], "ends a span that does not begin before it"),
        (["B-a", "L-b"], "ends a span that does not begin"),
        (["B-a", "b"], "'b' is not O, B-label or I-label"),
        ([0, 1], "without names"),
        ([True, "O"], "neither a name nor a number"),
        ([None, "O"], "neither a name nor a number"),
    ],
)
def test_tags_of_no_scheme_are_refused(tags, message):
    with pytest.raises(ValueError, match=message):
        spans_of_tags(tags)


NUMBERS = [{"tokens": TOKENS, "ner_tags": [1, 2, 0, 0, 3]}, {"tokens": OTHER.split(), "ner_tags": [0, 0, 0]}]
NAMES = ("O", "B-person", "I-person", "B-place")


def test_numbers_need_names(tmp_path):
    path = write(tmp_path / "rows.jsonl", NUMBERS)
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path)])
    assert isinstance(done.exception, DataError)
    assert "the tags are numbers" in str(done.exception)
    assert "--tags" in done.exception.remedy
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path), "--tags", ",".join(NAMES)])
    assert done.exit_code == 0, done.output
    columns = RunConfig.load(tmp_path / "task" / "task.yaml").data.columns
    assert columns.tags == NAMES
    loaded = read_examples(path, labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [row.label for row in loaded.examples] == [SPANS, "(none)"]
    with pytest.raises(DataError, match=r"the tag 2 has no name: data\.columns\.tags has 2, from 0 to 1"):
        read_examples(path, labels=LABELS, columns=columns.model_copy(update={"tags": NAMES[:2]}), spans="marked")


def test_names_of_numbers_are_read_from_parquet(tmp_path):
    classes = {"names": list(NAMES), "_type": "ClassLabel"}
    told = {
        "info": {"features": {"ner_tags": {"feature": classes, "_type": "Sequence"}, "kind": {**classes, "names": ["a", "b"]}}}
    }
    frame = pl.DataFrame(NUMBERS).with_columns(kind=pl.Series([1, -1]))
    frame.write_parquet(tmp_path / "rows.parquet", metadata={"huggingface": json.dumps(told)})
    with open_table(tmp_path / "rows.parquet") as table:
        rows = [record.values for record in table.records]
    assert rows[0] == {"tokens": TOKENS, "ner_tags": ["B-person", "I-person", "O", "O", "B-place"], "kind": "b"}
    assert rows[1]["kind"] is None
    columns = Columns(text="tokens", label="ner_tags")
    loaded = read_examples(tmp_path / "rows.parquet", labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [row.label for row in loaded.examples] == [SPANS, "(none)"]


def test_a_tag_column_that_is_named_wins(tmp_path):
    rows = [
        {**row, "pos_tags": ["N", "N", "V", "P", "N"][: len(row["tokens"])], "mine": ["x"] * len(row["tokens"])}
        for row in NUMBERS
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path), "--label-column", "mine"])
    assert done.exit_code == 0, done.output
    config = RunConfig.load(tmp_path / "task" / "task.yaml")
    assert (config.data.columns.text, config.data.columns.label, list(config.labels)) == ("tokens", "mine", ["x"])


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("cut.conll", "Mia\tB-person\nflew\n\nhere\tO\n", "row 1: line 2: a token without a tag"),
        ("wide.conll", "New York\tB-place\nis\tO\nfar\tout\tO\n", "row 1: line 3: 3 columns, where other lines have 2"),
        ("doc.spacy", "x", "a DocBin of spaCy"),
        ("cut.json", '[{"text": "a"}, {"text": "b', "row 2: not valid JSON: the file is cut off"),
        ("open.json", '[{"text": "a"},', "row 2: the array is not closed"),
        ("end.json", '[{"text": "a"}', "row 2: no comma between two values"),
        ("bad.json", '[{"text": "a"},\n {"text": oops, "label": "abcdefghijklmnop"}]', r"row 2: not valid JSON.*line 2"),
        ("more.json", '[{"text": "a"}] {"text": "b"}', "there is text after the array"),
        ("commas.json", '[{"text": "a"} {"text": "b"}]', "no comma between two values"),
    ],
)
def test_broken_files_name_the_place(tmp_path, name, rows, message):
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path / name, rows), labels=LABELS, spans="marked", least_labels=1)


def test_a_token_with_a_space_or_a_hash_stays_whole(tmp_path):
    rows = "#1\tO\nin\tO\nNew York\tB-place\n\n#\tO\nhere\tO\n"
    loaded = read_examples(write(tmp_path / "rows.conll", rows), labels=("place",), spans="marked", least_labels=1)
    assert [(row.text, row.label) for row in loaded.examples] == [("#1 in New York", "3-5:place"), ("# here", "(none)")]


def test_an_array_is_read_in_pieces(tmp_path):
    rows = [{"text": f"{n} 😀 " + "word " * (n % 700), "label": "person" if n % 2 else "place"} for n in range(400)]
    path = write(tmp_path / "rows.json", "\ufeff" + json.dumps(rows, indent=1) + "\n")
    with open_table(path) as table:
        assert [record.values for record in table.records] == rows
    with open_table(path) as table:
        assert [record.line for record in table.records][:3] == [2, 6, 10]


# What places count


EMOJI = "😀😀 Mia Wolf flew to Graz"
PLAIN = [[3, 11, "person"], [20, 24, "place"]]
WIDE = [[5, 13, "person"], [22, 26, "place"]]
BYTES = [[9, 17, "person"], [26, 30, "place"]]


def owned(places):
    return [{"start": a, "end": b, "label": label, "text": "Mia Wolf" if label == "person" else "Graz"} for a, b, label in places]


@pytest.mark.parametrize(
    ("places", "offsets"),
    [(PLAIN, None), (owned(PLAIN), None), (owned(WIDE), None), (owned(BYTES), None), (WIDE, "utf16"), (BYTES, "bytes")],
)
def test_places_are_found_in_each_unit(tmp_path, places, offsets):
    path = write(tmp_path / "rows.jsonl", [{"text": EMOJI, "label": places}])
    columns = Columns(offsets=offsets)
    loaded = read_examples(path, labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [row.label for row in loaded.examples] == ["2-4:person 6-7:place"]


@pytest.mark.parametrize(
    ("places", "offsets", "message"),
    [
        (WIDE, None, "the span 5-13 is in characters 'a Wolf f' but in UTF-16 units 'Mia Wolf': say which it is"),
        (BYTES, None, "the span 9-17 is in characters 'lf flew ' but in bytes 'Mia Wolf'"),
        (
            [{**one, "text": "Ann"} for one in owned(PLAIN)],
            None,
            "the span 3-11 has the text 'Ann', and is in characters 'Mia Wolf'",
        ),
        (owned(WIDE), "characters", "the span 5-13 has the text 'Mia Wolf', and is in characters 'a Wolf f'"),
        (WIDE, "bytes", "the span 5-13 is in bytes nothing"),
        ([owned(PLAIN)[0], owned(WIDE)[1]], None, "match their own texts in different units"),
        ([[0, 90, "person"]], None, "the span 0-90 is no part of the text, which has 24 characters"),
    ],
)
def test_places_that_fit_nowhere_are_refused_with_what_they_say(tmp_path, places, offsets, message):
    path = write(tmp_path / "rows.jsonl", [{"text": EMOJI, "label": places}])
    with pytest.raises(DataError, match=message):
        read_examples(path, labels=LABELS, columns=Columns(offsets=offsets), spans="marked", least_labels=1)


def test_init_finds_what_places_count(tmp_path):
    rows = [{"text": EMOJI, "label": WIDE}, {"text": "Mia sat", "label": [[0, 3, "person"]]}]
    path = write(tmp_path / "rows.jsonl", rows)
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path)])
    assert "offsets of spans count utf16" in done.output
    columns = RunConfig.load(tmp_path / "task" / "task.yaml").data.columns
    loaded = read_examples(path, labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [row.label for row in loaded.examples] == ["2-4:person 6-7:place", "0-1:person"]


# Damage


JUNK = [None, 0, -1, 1.5, True, "", "x", [], {}, [[]], [None], {"a": None}, "😀😀", 10**30, [1, 2, 3], {"start": 0}, "\ud800"]


def mutated(value, rng):
    if rng.random() < 0.08:
        return rng.choice(JUNK)
    if isinstance(value, dict):
        return {key: mutated(each, rng) for key, each in value.items() if rng.random() > 0.04}
    return [mutated(each, rng) for each in value] if isinstance(value, list) else value


def test_a_damaged_export_is_a_bad_row_or_an_error_and_never_a_traceback(tmp_path):
    rng, path = random.Random(0), tmp_path / "rows.jsonl"
    lists = [value for table in (WORDS, CHOICES, SEVERAL) for value in table.values() if isinstance(value, list)]
    rows = [*itertools.chain(*lists), *(row for row, _ in (*LEFT.values(), *REFUSED.values()))]
    read = 0
    for _ in range(250):
        damaged = [{"text": "[a](person) b", "label": "place"}, mutated(rng.choice(rows), rng)]
        path.write_text("".join(json.dumps(row) + "\n" for row in damaged), "utf-8")
        for look in (sniff_tagged, sniff):
            with suppress(DataError):
                look(path)
        for spans, separator in (("marked", None), ("none", None), ("none", "|")):
            loaded = read_examples(path, labels=LABELS, spans=spans, separator=separator, least_labels=0, skip_bad=True)
            assert len(loaded.examples) + len(loaded.skipped) == loaded.rows == 2
            read += len(list(iter_rows(path, spans=spans, separator=separator)))
    assert read == 250 * 3 * 2


def test_a_byte_of_another_encoding_spoils_its_row_only(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"text": "a \xe9", "label": "x"}, {"text": "\xc3\xa9\xc3\xa9 b", "label": "y"}]')
    first, second = iter_rows(path)
    assert first.message == "byte 0xE9 does not fit the file's encoding"
    assert second.text == "éé b"


# Plain files and exports are read alike


def test_an_answer_that_is_itself_the_label_is_read(tmp_path):
    rows = [{"text": f"text {n}", "label": "x", "answer": ("accept", "reject")[n % 2]} for n in range(4)]
    path, columns = write(tmp_path / "rows.jsonl", rows), Columns(label="answer")
    assert sniff(path, label_column="answer").labels == {"accept": 2, "reject": 2}
    loaded = read_examples(path, labels=("accept", "reject"), columns=columns)
    assert [row.label for row in loaded.examples] == ["accept", "reject"] * 2
    assert [row.label for row in iter_rows(path, columns=columns)] == ["accept", "reject"] * 2


@pytest.mark.parametrize("refused", ["reject", "ignore"])
@pytest.mark.parametrize("key", ["spans", "label"])
def test_spans_that_people_refused_are_no_spans_and_no_empty_text_either(tmp_path, refused, key):
    bad = {"text": TEXT, key: [{**PLACES[0], "label": "wrong"}], "answer": refused, "_task_hash": 1}
    good = {"text": TEXT, key: PLACES, "answer": "accept", "_task_hash": 2}
    path = write(tmp_path / "rows.jsonl", [bad, good])
    assert set(sniff_tagged(path).labels) == set(LABELS)
    loaded = read_examples(path, labels=LABELS, spans="marked", least_labels=1)
    assert ([row.label for row in loaded.examples], [row.reason for row in loaded.skipped]) == ([SPANS], ["not accepted"])
    assert [row.label for row in iter_rows(path, spans="marked")] == [None, SPANS]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("numpy.csv", f"tokens,tags\n\"{TOKENS}\",\"['B-person' 'I-person' 'O' 'O' 'B-place']\"\n"),
        ("tuples.csv", f"text,label\n{TEXT},\"[(0, 8, 'person'), (17, 21, 'place')]\"\n"),
    ],
)
def test_lists_in_cells_are_read_however_they_were_printed(tmp_path, name, rows):
    path = write(tmp_path / name, rows)
    look = sniff_tagged(path)
    columns = Columns(text=look.text_column, label=look.label_column)
    loaded = read_examples(path, labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [row.label for row in loaded.examples] == [SPANS]


def test_a_token_a_row_is_read_from_a_workbook(tmp_path):
    rows = [*zip([1, None, None, None, None], TOKENS, ["B-person", "I-person", "O", "O", "B-place"], strict=True)]
    write_table(
        tmp_path / "rows.xlsx",
        ("Sentence #", "Word", "Tag"),
        (dict(zip(("Sentence #", "Word", "Tag"), row, strict=True)) for row in rows),
    )
    look = sniff_tagged(tmp_path / "rows.xlsx")
    columns = Columns(text=look.text_column, label=look.label_column)
    loaded = read_examples(tmp_path / "rows.xlsx", labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [(row.text, row.label) for row in loaded.examples] == [(TEXT, SPANS)]


def test_a_token_a_row_without_sentences_says_what_to_add(tmp_path):
    path = write(tmp_path / "rows.csv", "token,tag\nMia,B-person\nflew,O\nBo,B-person\n")
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path)])
    assert isinstance(done.exception, DataError)
    assert "add a column sentence_id" in done.exception.remedy


def test_what_is_no_number_in_an_array_is_missing_as_in_lines(tmp_path):
    rows = '{"text": "a", "label": NaN}', '{"text": "b", "label": "x"}'
    found = [
        [row.label for row in iter_rows(write(tmp_path / name, content))]
        for name, content in (("rows.json", f"[{', '.join(rows)}]"), ("rows.jsonl", "\n".join(rows)))
    ]
    assert found == [[None, "x"]] * 2


def test_names_of_numbers_are_known_to_evaluate_too(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{**row, "id": f"{n}"} for n in range(6) for row in renamed(n)])
    runner = CliRunner()
    assert runner.invoke(app, ["init", str(tmp_path), "--from", str(path), "--tags", ",".join(NAMES)]).exit_code == 0
    options = ["--set", "synthesis.drafts=0", "--set", "learners=[crf]", "--out", str(tmp_path / "run")]
    assert runner.invoke(app, ["run", str(tmp_path / "task.yaml"), *options]).exit_code == 0
    done = runner.invoke(app, ["evaluate", str(tmp_path / "run"), str(path), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["evaluated"]) == (0, 12)


def renamed(n):
    first, *rest = NUMBERS[0]["tokens"]
    return [
        {**NUMBERS[0], "tokens": [first + "abcdef"[n], *rest[:-1], "Graz" + "uvwxyz"[n]]},
        {**NUMBERS[1], "tokens": ["all", "quiet", "here" * (n + 1)]},
    ]
