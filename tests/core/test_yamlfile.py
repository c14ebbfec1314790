"""Hostile and odd YAML: refused with the line, or read as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.value import spell
from refsynth.core.yamlfile import dump_yaml, parse_yaml
from refsynth.labels.rules import read_rules
from refsynth.learning.prompting.templates import read_templates

LAUGHS = "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20))
HOSTILE = {
    "a key twice": ("labels: {a: x, b: y}\nseed: 1\nseed: 2\n", "line 3: .*the key 'seed' is there twice"),
    "a label twice": ("labels:\n  a: x\n  b: y\n  a: z\n", "line 4: .*the key 'a' is there twice"),
    "a number and its text": ("labels:\n  1: x\n  '1': y\n", "line 3: .*the key '1' is there twice"),
    "a label twice in a list": ("labels: [a, b, a]\n", "'a' is there twice"),
    "a key twice in one line": ("labels: {a: x, b: y, a: z}\n", "line 1: .*the key 'a' is there twice"),
    "laughs": (LAUGHS, "line 2: .*alias"),
    "an alias": ("labels: &x {a: y, b: z}\ndata: *x\n", "line 2: .*alias"),
    "a merge": ("labels: &x {a: y, b: z}\ndata:\n  <<: *x\n", "line 3: .*alias"),
    "deep lists": ("labels: " + "[" * 200_000, "line 1: .*levels"),
    "deep maps": ("labels:\n" + "".join(" " * i + "a:\n" for i in range(1, 300)), "line 4.: .*levels"),
    "ten megabytes of keys": ("labels:\n" + "".join(f"  k{i}: x\n" for i in range(1_000_000)), "expected at most"),
    "a key that is a list": ("labels:\n  ? [a, b]\n  : x\n", "line 2: .*a key that is no text"),
    "a python object": ("labels: !!python/object/apply:os.system [id]\n", "line 1: "),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [RunConfig.load, read_rules, read_templates])
def test_it_is_refused_with_its_line(tmp_path: Path, name: str, read) -> None:
    text, said = HOSTILE[name]
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    if read is RunConfig.load:
        assert caught.match(said) and "task.yaml" in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["{a: 1, a: 2}", "&x [*x]", "[" * 5000])
def test_an_override_is_read_with_the_same_care(tmp_path: Path, value: str) -> None:
    (tmp_path / "task.yaml").write_text("labels: [a, b]\n")
    with pytest.raises(ConfigError, match="--set"):
        RunConfig.load(tmp_path / "task.yaml", [f"data={value}"])


@pytest.mark.parametrize(
    "name", ["2024-01-01", "007", "12:30", "1_000", "0x1F", "1.10", "1e3", "-5", "+49", "3", "1.0", "0o17", "2024-01-01 10:00:00"]
)
def test_names_of_labels_are_read_as_those_of_data_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "task.yaml").write_text(f"labels:\n  {name}: one\n  other: two\n")
    assert list(RunConfig.load(tmp_path / "task.yaml").labels) == [spell(name), "other"]


@pytest.mark.parametrize("name", ["2024-01-01", "007", "12:30", "1_000", "0x1F"])
def test_names_in_a_list_that_are_no_plain_numbers_stay_as_they_stand(tmp_path: Path, name: str) -> None:
    (tmp_path / "task.yaml").write_text(f"labels: [{name}, other]\n")
    assert list(RunConfig.load(tmp_path / "task.yaml").labels) == [name, "other"]


def test_a_label_without_a_description_is_its_name_in_words(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("labels:\n  lost_card:\n  top_up: money in\n")
    assert RunConfig.load(tmp_path / "task.yaml").labels == {"lost_card": "lost card", "top_up": "money in"}


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x85\u2028\u2029"))  # PyYAML writes these wrong
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20)


@given(TREES)
@example("0E0")
@example({"text": "1e5"})
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse_yaml(dump_yaml(value)) == value


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_garbage_is_a_value_or_an_error_of_yaml(text: str) -> None:
    try:
        parse_yaml(text)
    except yaml.YAMLError as error:
        assert str(error)
