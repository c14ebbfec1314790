import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.config import RunConfig
from refsynth.core.drafting import EndpointReference
from refsynth.core.errors import ConfigError
from refsynth.data.labels import as_label

LABELS = {"a": "first", "b": "second"}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"labels": LABELS, "sythesis": {}}, "unknown key 'sythesis'; did you mean 'synthesis'?"),
        ({"labels": LABELS, "synthesis": {"draft": 3}}, "unknown key 'synthesis.draft'; did you mean 'drafts'?"),
        ({"labels": LABELS, "data": {"colums": {}}}, "did you mean 'columns'?"),
        ({"labels": {"a": "only"}}, "at least 2"),
        ({}, "'labels' is missing"),
        ({"labels": LABELS, "task": "rank"}, "task"),
        ({"labels": LABELS, "seed": -1}, "seed"),
        ({"labels": LABELS, "synthesis": {"top_p": 0}}, "synthesis.top_p"),
        ({"labels": LABELS, "filter": {"influence": 1.0}}, "filter.influence"),
        ({"labels": LABELS, "filter": {"targets": "label smoothing"}}, "filter.targets"),
        ({"labels": LABELS, "reference": {"endpoint": "ftp://x", "model": "m"}}, "reference.endpoint"),
        ({"labels": LABELS, "learners": ["lroa"]}, "learners.0: found 'lroa', known are contrastive, finetune, "),
        ({"labels": LABELS, "learners": ["lroa"]}, "; did you mean 'lora'?"),
        ({"labels": LABELS, "learners": "lora"}, "learners: found 'lora', expected a list"),
        ({"labels": LABELS, "learners": []}, "learners: Tuple should have at least 1 item"),
        ({"labels": LABELS, "learners": ["tfidf", "frozen", "tfidf"]}, "learners: found tfidf twice"),
        ({"labels": LABELS, "training": {"rdrop": 1, "mixup": 1}}, ": training: rdrop compares two passes"),
        ({"labels": {"a": "x", " ": "y"}}, "a label name is empty"),
    ],
)
def test_wrong_trees_name_key_and_remedy(tree, message):
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse(tree)
    assert message in str(caught.value)
    assert "docs/reference/configuration.md" in str(caught.value)


def test_a_list_with_a_wrong_entry_is_not_called_too_short():
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse({"labels": LABELS, "learners": ["svm"], "synthesis": {"ways": ["exmples"]}})
    assert len(str(caught.value).splitlines()) == 3
    assert "at least" not in str(caught.value) and "Input should be" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"reference": "embeded"}, {"reference": 5}, {"synthesis": {"augment": ["nois"]}}])
def test_a_misspelt_word_is_not_called_a_missing_table(changes):
    """Where a word or keys may stand, the forms with keys are no further problems."""
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse({"labels": LABELS, **changes})
    assert len(str(caught.value).splitlines()) == 2 and "known are" in str(caught.value)


def test_every_problem_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse({"labels": LABELS, "seed": "x", "gate": {"fold": 3}})
    assert "seed" in str(caught.value)
    assert "did you mean 'folds'?" in str(caught.value)


@pytest.mark.parametrize("labels", [{1.0: "one", 2.0: "two"}, [1.0, 2.0], [1, 2], ["1", "2"]])
def test_class_numbers_are_named_as_data_files_read_them(labels):
    assert list(RunConfig.parse({"labels": labels}).labels) == [as_label(1.0), as_label(2.0)] == ["1", "2"]


def test_label_names_alone_become_descriptions():
    assert RunConfig.parse({"labels": ["lost_card", "top_up"]}).labels == {"lost_card": "lost card", "top_up": "top up"}


@pytest.mark.parametrize("labels", ["[1, b]", "{1: one, b: two}"])
def test_numbers_are_names_of_labels_and_truth_values_are_not(tmp_path, labels):
    path = tmp_path / "task.yaml"
    path.write_text(f"labels: {labels}\n", encoding="utf-8")
    assert list(RunConfig.load(path).labels) == ["1", "b"]
    path.write_text(f"labels: {labels.replace('1', 'yes')}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="found True; as text yes, no, on, off, true and false need quotes"):
        RunConfig.load(path)


def test_load_reads_overrides_and_anchors_paths(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("labels: {a: first, b: second}\ndata: {train: rows.csv}\n", encoding="utf-8")
    config = RunConfig.load(path, ["synthesis.drafts=40", "reference.endpoint=http://localhost:1/v1", "reference.model=m"])
    assert config.data.train == tmp_path / "rows.csv"
    assert config.synthesis.drafts == 40
    assert isinstance(config.reference, EndpointReference)


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"labels: [a, b\n", b"\xff\xfe\x00", b"a: b: c\n", b"\x00"])
def test_files_that_are_no_tree_are_refused(tmp_path, content):
    path = tmp_path / "task.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"task\.yaml"):
        RunConfig.load(path)


def test_an_absent_file_names_the_way_to_one(tmp_path):
    with pytest.raises(ConfigError, match="refsynth init"):
        RunConfig.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("override", ["seed", "=3", "seed=[1"])
def test_wrong_overrides_are_refused(tmp_path, override):
    path = tmp_path / "task.yaml"
    path.write_text("labels: [a, b]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="--set"):
        RunConfig.load(path, [override])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*RunConfig.model_fields, "x"]) | st.text(max_size=6), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_tree_is_accepted_or_refused_with_a_config_error(tree):
    try:
        RunConfig.parse(tree if isinstance(tree, dict) else {"labels": tree})
    except ConfigError as error:
        assert str(error)


def test_the_tree_is_frozen():
    config = RunConfig.parse({"labels": LABELS})
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
