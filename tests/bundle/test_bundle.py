"""A bundle round-trips, refuses whatever was changed in it, and falls back to its safe arithmetic."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from safetensors.numpy import save as save_tensors

from refsynth import bundle
from refsynth.bundle import files
from refsynth.bundle.golden import GOLDEN_TEXTS, Golden
from refsynth.bundle.manifest import CARD, MANIFEST
from refsynth.core.errors import BundleError, InputError
from refsynth.core.hashes import file_digest
from refsynth.core.intervals import INTERVALS
from refsynth.data.text import clean
from refsynth.kinds.metrics import softmax
from refsynth.models.predict import LinearHead
from tests.support.contents import LABELS, encoder_contents, tfidf_contents

FILES = sorted({CARD, *bundle.TIERS["encoder"].names})


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> bundle.Contents:
    return encoder_contents(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def saved(contents: bundle.Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "one"
    bundle.save(folder, contents)
    rewrite(folder, lambda tree: tree.update(golden_limit=0.05))  # of a tiny model, which a spoilt layer moves less
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def rewrite(folder: Path, change: Callable[[dict], None] = lambda tree: None) -> None:
    """Change the manifest, and make its hashes those of the files that are there: what a forger does."""
    tree = json.loads((folder / MANIFEST).read_bytes())
    for name, entry in tree["files"].items():
        if (folder / name).is_file():
            entry.update(sha256=file_digest(folder / name), size=(folder / name).stat().st_size)
    change(tree)
    (folder / MANIFEST).write_text(json.dumps(tree))


def test_predictions_are_those_of_the_reference_calibrated(saved: Path, contents: bundle.Contents) -> None:
    model = bundle.load(saved)
    texts = ["where is it", "a nine letter listing", "no"]
    assert model.labels == tuple(LABELS)
    assert model.variant == "int8"
    np.testing.assert_allclose(model.probabilities(texts), softmax(contents.tiers[0].reference.logits(texts) / 2.0), atol=0.05)
    for prediction, row in zip(model.predict(texts), model.probabilities(texts), strict=True):
        assert prediction.label == model.labels[row.argmax()]
        assert prediction.probability == pytest.approx(row.max())
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.abstain == (row.max() < 0.4)
    assert model.predict([]) == []


def test_it_abstains_exactly_below_the_threshold(contents: bundle.Contents, tmp_path: Path) -> None:
    always = replace(contents, tiers=[replace(contents.tiers[0], calibration=bundle.Calibration(threshold=1.0))])
    bundle.save(tmp_path / "b", always)
    assert all(prediction.abstain for prediction in bundle.load(tmp_path / "b").predict(["a", "b c"]))


def test_one_text_instead_of_a_list_is_refused(saved: Path) -> None:
    with pytest.raises(TypeError, match="sequence of texts"):
        bundle.load(saved).predict("hello")


def test_a_tfidf_bundle_gives_the_same_logits(tmp_path: Path) -> None:
    contents = tfidf_contents()
    bundle.save(tmp_path / "b", contents)
    model = bundle.load(tmp_path / "b")
    texts = ["please, my card is lost", "unknown words", ""]
    assert model.variant == "exact"
    np.testing.assert_allclose(model.logits(texts), contents.tiers[0].reference.logits(texts), atol=1e-6)


def test_the_manifest_tells_what_went_in(saved: Path) -> None:
    manifest = bundle.load(saved).manifest
    assert [(label.name, label.description) for label in manifest.labels] == list(LABELS.items())
    assert manifest.metrics["accuracy"].n == 100
    assert manifest.lineage["seed"] == 0
    assert set(manifest.files) == set(FILES)


def test_the_card_has_front_matter_and_no_markup_of_the_users(saved: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pipeline_tag"] == "text-classification"
    assert front["language"] == "en"
    assert "| accuracy | 0.750 | 0.700 to 0.800 | 100 |" in card
    assert INTERVALS in card
    assert json.loads((saved / MANIFEST).read_bytes())["intervals"] == INTERVALS
    assert "| card \\| lost | the customer lost &lt;b&gt;a card&lt;/b&gt; |" in card


def test_golden_texts_are_plain_and_survive_cleaning() -> None:
    assert len(set(GOLDEN_TEXTS)) == len(GOLDEN_TEXTS) == 64
    assert [clean(text) for text in GOLDEN_TEXTS] == list(GOLDEN_TEXTS)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found_and_the_file_named(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=name.replace(".", r"\.") + ".*changed"):
        bundle.load(copy)


@pytest.mark.parametrize("name", (*FILES, MANIFEST))
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.") + ".* is missing"):
        bundle.load(copy)


def test_an_extra_file_is_named(copy: Path) -> None:
    (copy / "notes.txt").touch()
    with pytest.raises(BundleError, match=r"notes\.txt.* does not belong"):
        bundle.load(copy)


@pytest.mark.parametrize("name", ["weights.bin", MANIFEST])
def test_a_symbolic_link_is_refused_even_to_the_same_bytes(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        bundle.load(copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/file", "..", "weights.bin/../x"])
def test_a_manifest_that_names_paths_is_refused(copy: Path, name: str) -> None:
    rewrite(copy, lambda tree: tree["files"].update({name: tree["files"]["weights.bin"]}))
    with pytest.raises(BundleError, match="does not belong"):
        bundle.load(copy)


def test_a_newer_format_says_upgrade(copy: Path) -> None:
    rewrite(copy, lambda tree: tree.update(schema_version=99, brand_new=1))
    with pytest.raises(BundleError, match="upgrade refsynth"):
        bundle.load(copy)


@pytest.mark.parametrize("folder", ["absent", "empty", "file"])
def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BundleError):
        bundle.load(tmp_path / folder)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "weights.bin2", "golden.json"])
@pytest.mark.parametrize("order", ["location first", "location last", "location twice"])
def test_a_forged_graph_that_reads_another_file_is_refused(copy: Path, location: str, order: str) -> None:
    shutil.copy(copy / "weights.bin", copy.parent / "outside.bin")
    model = onnx.load(copy / "int8.onnx", load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    others = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != "location"]
    del tensor.external_data[:]
    names = [("location", location)] if order != "location twice" else [("location", "weights.bin"), ("location", location)]
    for key, value in (*others, *names) if order == "location last" else (*names, *others):
        tensor.external_data.add(key=key, value=value)
    (copy / "int8.onnx").write_bytes(model.SerializeToString())
    rewrite(copy)
    with pytest.raises(BundleError, match=r"other than weights\.bin"):
        bundle.load(copy)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("int8.onnx", b"no graph"),
        ("int8.onnx", b""),
        ("weights.bin", b"short"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff"),
        ("golden.json", b"[" * 100_000),
        ("golden.json", b'{"texts": ["a"], "probabilities": [[1.0]]}'),
        ("golden.json", b'{"texts": ["a"], "probabilities": [[NaN, 0, 0]]}'),
        ("head.safetensors", b"\xff" * 64),
        ("head.safetensors", save_tensors({"weights": np.zeros((32, 3))})),
        ("head.safetensors", save_tensors({"weights": np.zeros((31, 3)), "bias": np.zeros(3)})),
        ("head.safetensors", save_tensors({"weights": np.zeros((32, 2)), "bias": np.zeros(2)})),
        ("head.safetensors", save_tensors({"weights": np.full((32, 3), np.nan), "bias": np.zeros(3)})),
        ("head.safetensors", save_tensors({"weights": np.zeros((32, 3), int), "bias": np.zeros(3, int)})),
    ],
)
def test_forged_files_with_right_hashes_end_in_a_bundle_error(copy: Path, name: str, data: bytes) -> None:
    (copy / name).write_bytes(data)
    rewrite(copy)
    with pytest.raises(BundleError):
        bundle.load(copy)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.filterwarnings("ignore:.*does not know")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_malformed_manifest_is_a_bundle_error(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    tree = json.loads((saved / MANIFEST).read_bytes())
    key = data.draw(st.sampled_from([*tree, "new"]))
    if data.draw(st.booleans()) and key in tree:
        del tree[key]
    else:
        tree[key] = data.draw(json_values)
    folder = tmp_path / "forged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps(tree))
    with pytest.raises(BundleError):
        bundle.load(folder)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("prefix", [b"", b"[" * 5000, b'{"schema_version": 4, "tiers": '])
def test_garbage_for_a_manifest_is_a_bundle_error(tmp_path: Path, prefix: bytes, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(prefix + data)
    with pytest.raises(BundleError):
        bundle.load(tmp_path)


def spoil(folder: Path, name: str) -> None:
    """Make a graph compute something else, as a processor would whose integer products saturate."""
    model = onnx.load(folder / name, load_external_data=False)
    scales = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale") and not tensor.external_data]
    assert scales
    for scale in scales:
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * -3, scale.name))
    (folder / name).write_bytes(model.SerializeToString())


def test_where_int8_goes_wrong_the_safe_variant_takes_over_and_says_so(copy: Path, contents: bundle.Contents) -> None:
    spoil(copy, "int8.onnx")
    rewrite(copy)
    with pytest.warns(RuntimeWarning, match="safe variant"):
        model = bundle.load(copy)
    assert model.variant == "safe"
    texts = ["where is it", "no"]
    np.testing.assert_allclose(model.probabilities(texts), softmax(contents.tiers[0].reference.logits(texts) / 2.0), atol=0.01)


def test_where_both_variants_go_wrong_nothing_is_served(copy: Path) -> None:
    spoil(copy, "int8.onnx")
    spoil(copy, "safe.onnx")
    rewrite(copy)
    with pytest.raises(BundleError, match="golden outputs"):
        bundle.load(copy)


def test_a_tie_may_turn_but_a_decision_may_not() -> None:
    golden = Golden(("a", "b"), np.array([[0.51, 0.49], [0.9, 0.1]]))
    assert golden.share_off(np.array([[0.48, 0.52], [0.88, 0.12]]), limit=0.1) == 0
    assert golden.share_off(np.array([[0.51, 0.49], [0.75, 0.25]]), limit=0.1) == 0.5
    decided = Golden(("a",), np.array([[0.6, 0.4]]))
    assert decided.share_off(np.array([[0.45, 0.55]]), limit=0.16) == 1
    assert golden.share_off(np.full((2, 2), np.nan), limit=1.0) == 1


class TestSave:
    def test_a_model_unlike_its_reference_is_not_written(self, contents: bundle.Contents, tmp_path: Path) -> None:
        (tier,) = contents.tiers
        packed = replace(tier.packed, tensors=tier.packed.tensors | {"weights": -tier.packed.tensors["weights"]})
        other = replace(contents, tiers=[replace(tier, packed=packed)])
        with pytest.raises(BundleError, match="golden outputs"):
            bundle.save(tmp_path / "b", other)
        assert list(tmp_path.iterdir()) == []

    def test_an_old_bundle_is_replaced_and_nothing_is_left_over(self, saved: Path, tmp_path: Path) -> None:
        shutil.copytree(saved, tmp_path / "b")
        bundle.save(tmp_path / "b", tfidf_contents())
        assert bundle.load(tmp_path / "b").manifest.last.kind == "tfidf"
        assert [path.name for path in tmp_path.iterdir()] == ["b"]

    def test_a_folder_with_other_things_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "thesis.txt").write_text("years of work")
        with pytest.raises(InputError, match="not a bundle"):
            bundle.save(tmp_path / "b", tfidf_contents())
        assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.txt"]

    def test_labels_in_another_order_are_refused(self, tmp_path: Path) -> None:
        contents = tfidf_contents()
        with pytest.raises(InputError, match="labels"):
            bundle.save(tmp_path / "b", replace(contents, labels=dict(reversed(LABELS.items()))))

    def test_two_saves_of_the_same_are_the_same_bytes(self, tmp_path: Path) -> None:
        for name in "ab":
            bundle.save(tmp_path / name, tfidf_contents())
        assert (tmp_path / "a" / MANIFEST).read_bytes() == (tmp_path / "b" / MANIFEST).read_bytes()


def test_loading_and_predicting_need_no_training_library(saved: Path) -> None:
    code = (
        "import sys; from refsynth import bundle; bundle.load(sys.argv[1]).predict(['a']); "
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'onnx', 'polars', 'datasketch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(saved)], check=True, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    )


def test_what_is_swapped_after_it_was_read_is_not_used(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is swapped as soon as its bytes were verified: a second read of any would give the other content."""
    before = bundle.load(copy).probabilities(GOLDEN_TEXTS[:5])
    opened, swapped = files.opened, []

    @contextmanager
    def swapping(path: Path) -> Iterator[tuple[BufferedReader, int]]:
        with opened(path) as found:
            yield found
        path.write_bytes(b"another")
        swapped.append(path.name)

    monkeypatch.setattr(files, "opened", swapping)
    model = bundle.load(copy)
    np.testing.assert_array_equal(model.probabilities(GOLDEN_TEXTS[:5]), before)
    assert sorted(swapped) == sorted(model.manifest.files)  # each was read, and none twice


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(copy: Path) -> None:
    for name in ("head.safetensors", "manifest.json"):
        (copy / name).unlink()
        os.mkfifo(copy / name)
        with pytest.raises(BundleError, match="is not a file"):
            bundle.load(copy)


def test_a_good_bundle_loads_without_a_warning(saved: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle.load(saved)


def test_a_head_that_lies_transposed_in_memory_is_saved_right(saved: Path, contents: bundle.Contents, tmp_path: Path) -> None:
    (tier,) = contents.tiers
    head = tier.reference.head
    turned = LinearHead(np.asfortranarray(head.weights), head.bias).tensors()
    bundle.save(tmp_path / "turned", replace(contents, tiers=[replace(tier, packed=replace(tier.packed, tensors=turned))]))
    assert (tmp_path / "turned" / "head.safetensors").read_bytes() == (saved / "head.safetensors").read_bytes()
