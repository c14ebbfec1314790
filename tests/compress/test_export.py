"""What a bundle is handed over as gives the bundle's own probabilities, by other tools; what cannot be handed over says why."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tokenizers
import torch
import transformers
import yaml
from tokenizers import Tokenizer
from typer.testing import CliRunner

from refsynth import bundle, join_pair
from refsynth.bundle.files import Files
from refsynth.bundle.pyfunc import _load_pyfunc
from refsynth.bundle.tiers import _open
from refsynth.cli.app import app
from refsynth.compress.export import export_encoder
from refsynth.compress.handover import TARGETS, export_bundle
from refsynth.core.errors import BundleError, InputError
from refsynth.data.text import clean
from refsynth.models.predict import LinearHead
from refsynth.models.static import StaticPredictor
from refsynth.models.tokenizer import TextTokenizer
from tests.support.contents import LABELS, TorchReference, encoder_contents, tfidf_contents
from tests.support.tiers import make_run
from tests.support.tiny_encoder import MAX_TOKENS, embed, make_encoder, make_tokenizer

TEXTS = [
    "where is the parcel?",
    "  odd   spaces\there\n ",
    "zero\u200bwidth \u00a0nbsp \ufeff bom",
    "x" * 80,
    "one two three " * 60,
    "Ünïcödé ñ 中文 😀",
    "ctrl\x01\x07chars",
    "\u3000wide\u2028line",
]


class Prefixed(TorchReference):
    """The tiny encoder, which wants a prefix."""

    def __init__(self, tokenizer: Path, head: LinearHead, prefix: str) -> None:
        super().__init__(tokenizer, head)
        self.tokenizer = TextTokenizer(tokenizer, max_tokens=MAX_TOKENS, prefix=prefix)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> bundle.Contents:
    return encoder_contents(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with the tokenizer of the tiny encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    make_tokenizer(folder / "t.json")
    return folder


def changed(contents, reference, *, task="classify", **packed):
    """Return contents with another reference, and other facts of how its only tier reads."""
    (tier,) = contents.tiers
    return replace(contents, task=task, tiers=[replace(tier, packed=replace(tier.packed, **packed), reference=reference)])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, encoder, contents):
    """A bundle of each sort that can be one graph."""
    folder, rng = tmp_path_factory.mktemp("bundles"), np.random.default_rng(3)
    bundle.save(folder / "encoder", contents)
    (tier,) = contents.tiers
    prefixed = Prefixed(encoder / "t.json", tier.reference.head, "query: ")
    bundle.save(folder / "prefix", changed(contents, reference=prefixed, prefix="query: "))
    bundle.save(folder / "pairs", replace(contents, task="pairs"))
    several = bundle.Calibration(temperature=0.7, threshold=0.2, thresholds=(0.5, 0.4, 0.6))
    bundle.save(folder / "multilabel", replace(contents, task="multilabel", tiers=[replace(tier, calibration=several)]))
    tokenizer = TextTokenizer(encoder / "t.json", max_tokens=MAX_TOKENS, special=False)
    head = LinearHead(rng.normal(size=(tokenizer.size, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    static = StaticPredictor(tuple(LABELS), tokenizer, head)
    shutil.copy(encoder / "t.json", encoder / "tokenizer.json")
    pack = partial(bundle.pack, folder=encoder)
    bundle.save(folder / "static", replace(contents, tiers=[replace(tier, packed=pack(static), reference=static)]))
    for windows in ("mean", "head_tail"):
        longer = TextTokenizer(encoder / "t.json", max_tokens=MAX_TOKENS, special=False, windows=windows)
        other = StaticPredictor(tuple(LABELS), longer, head)
        bundle.save(folder / windows, replace(contents, tiers=[replace(tier, packed=pack(other), reference=other)]))
    long_reader = TorchReference(encoder / "t.json", tier.reference.head)
    bundle.save(folder / "windows", changed(contents, reference=long_reader, windows="mean"))
    bundle.save(folder / "tfidf", tfidf_contents())
    return folder


def pairs_of(name, texts=TEXTS):
    """Return texts as the bundle and as a tokenizer gets them."""
    if name != "pairs":
        return texts, texts
    pairs = [(text, texts[place - 1]) for place, text in enumerate(texts)]
    return [join_pair(*pair) for pair in pairs], pairs


def by_onnxruntime(folder, texts, output="probabilities"):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    rows = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(row, part) for row in rows], np.int64) for part in ("ids", "attention_mask"))
    return session.run([output], {"input_ids": ids, "attention_mask": mask})[0]


@pytest.mark.parametrize("name", ["encoder", "prefix", "pairs", "multilabel", "static", "mean"])
def test_one_graph_gives_what_predict_gives(bundles, tmp_path, name):
    model = bundle.load(bundles / name)
    out = export_bundle(bundles / name, "onnx", tmp_path / "out")
    ours, theirs = pairs_of(name)
    expected = model.probabilities(ours)
    np.testing.assert_allclose(by_onnxruntime(out, theirs), expected, atol=1e-5)
    one_by_one = np.concatenate([by_onnxruntime(out, [text]) for text in theirs])
    np.testing.assert_allclose(one_by_one, expected, atol=1e-5)
    logits = by_onnxruntime(out, theirs, "logits")
    np.testing.assert_allclose(model.manifest.answers.probabilities(logits), expected, atol=1e-5)
    config = transformers.AutoConfig.from_pretrained(out)
    assert [config.id2label[place] for place in range(3)] == list(LABELS) == list(model.labels)
    assert config.problem_type == ("multi_label_classification" if name == "multilabel" else "single_label_classification")
    encoded = transformers.AutoTokenizer.from_pretrained(out)(
        *([list(half) for half in zip(*theirs, strict=True)] if name == "pairs" else [theirs]), padding=True, truncation=True
    )
    rows = Tokenizer.from_file(str(out / "tokenizer.json")).encode_batch(theirs)
    assert encoded["input_ids"] == [row.ids for row in rows] and set(encoded) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("name", "told"), [("encoder", False), ("static", False), ("mean", False), ("head_tail", True), ("windows", True)]
)
def test_what_is_read_of_long_texts_is_told_where_the_bundle_reads_more(bundles, tmp_path, name, told):
    card = (export_bundle(bundles / name, "onnx", tmp_path / "out") / "README.md").read_text("utf-8")
    assert ("this form reads the first" in card) is told
    theirs, ours = by_onnxruntime(tmp_path / "out", TEXTS), bundle.load(bundles / name).probabilities(TEXTS)
    assert np.allclose(theirs, ours, atol=1e-5) is not told


@pytest.mark.parametrize("name", ["encoder", "prefix", "pairs", "multilabel"])
def test_transformers_gives_what_the_safe_variant_gives(bundles, tmp_path, monkeypatch, name):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = bundles / name
    manifest = bundle.load(folder).manifest
    out = export_bundle(folder, "transformers", tmp_path / f"out_{name}")
    ours, theirs = pairs_of(name)
    safe = _open(Files(folder), manifest.last, "safe", 1)[0].logits([clean(text) for text in ours])
    expected = manifest.answers.probabilities(safe / manifest.calibration.temperature)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out, trust_remote_code=True).eval()
    with torch.inference_mode():
        halves = [list(half) for half in zip(*theirs, strict=True)] if name == "pairs" else [theirs]
        logits = model(**tokenizer(*halves, padding=True, truncation=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(manifest.answers.probabilities(logits), expected, atol=1e-5)
    assert list(model.config.label2id) == list(LABELS)


@pytest.mark.parametrize("name", ["encoder", "static", "tfidf"])
def test_mlflow_loads_any_bundle_and_pickles_nothing(bundles, tmp_path, name):
    mlflow = pytest.importorskip("mlflow.pyfunc")
    pandas = pytest.importorskip("pandas")
    out = export_bundle(bundles / name, "mlflow", tmp_path / "out")
    served = mlflow.load_model(str(out))
    expected = [one.label for one in bundle.load(bundles / name).predict(TEXTS)]
    for given in (TEXTS, pandas.DataFrame({"text": TEXTS})):
        rows = served.predict(given)
        assert [row["label"] for row in rows] == expected and set(rows[0]["probabilities"]) == set(LABELS)
    spoilt = served.predict([TEXTS[0], "", "\u200b", TEXTS[1], " "])
    assert [row["label"] for row in spoilt] == [expected[0], None, None, expected[1], None]
    assert [row["reason"] for row in spoilt] == [None, "empty text", "empty text", None, "empty text"]
    assert not [path for path in out.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    assert re.match(r"refsynth==\d", (out / "requirements.txt").read_text())


@pytest.mark.parametrize(
    ("name", "given", "reasons"),
    [
        (
            "encoder",
            ["", "a text", None, float("nan"), 7],
            ["empty text", None, "empty text", "empty text", "found int, expected a text"],
        ),
        ("pairs", ["one ‖ two", "one", "one ‖ ", ""], [None, "one text, expected two", "no text in 'second'", "empty text"]),
        ("tfidf", [""], ["empty text"]),
    ],
)
def test_a_row_without_a_text_spoils_no_other(bundles, name, given, reasons):
    rows = _load_pyfunc(str(bundles / name)).predict(given)
    for row, reason in zip(rows, reasons, strict=True):
        assert set(row) == {"label", "probability", "abstain", "probabilities", "reason"}
        assert (row["reason"] is None) is (reason is None) and (row["reason"] or "").startswith(reason or "")
        assert all((row[key] is None) is (reason is not None) for key in row if key != "reason")


@pytest.mark.parametrize(("to", "name"), [("onnx", "encoder"), ("onnx", "static"), ("transformers", "encoder")])
def test_the_card_says_what_becomes_of_no_text(bundles, tmp_path, to, name):
    card = (export_bundle(bundles / name, to, tmp_path / "out") / "README.md").read_text("utf-8")
    assert "answers an empty text" in card and "leave such texts out" in card


@pytest.mark.parametrize("name", ["encoder", "static", "tfidf"])
def test_a_folder_for_the_hub_has_a_card_and_the_bundle(bundles, tmp_path, name):
    out = export_bundle(bundles / name, "hub", tmp_path / "out")
    card = (out / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "refsynth" and "hf upload" in card
    assert bundle.load(out / "bundle").labels == tuple(LABELS)  # files beside it, as the hub adds them, are no matter
    assert "*.onnx filter=lfs" in (out / ".gitattributes").read_text()


def test_the_lines_in_the_card_run(bundles, tmp_path, monkeypatch, capsys):
    out = export_bundle(bundles / "encoder", "onnx", tmp_path / "out")
    code = re.search(r"```python\n(.*?)```", (out / "README.md").read_text("utf-8"), re.DOTALL)[1]
    assert len(code.strip().splitlines()) == 8
    monkeypatch.chdir(out)
    exec(compile(code, "README.md", "exec"), {})
    told = bundle.load(bundles / "encoder").predict(["a text"])[0].probabilities
    assert eval(capsys.readouterr().out)[0] == pytest.approx(told, abs=1e-5)


REFUSED = [
    ("tfidf", "onnx", "the tier 'tfidf' cannot be one graph: no ONNX operator splits"),
    ("tfidf", "transformers", "the tier 'tfidf' has no weights for transformers: no ONNX operator splits"),
    ("static", "transformers", "the tier 'static' has no weights for transformers: it is a table of votes"),
]


@pytest.mark.parametrize(("name", "to", "message"), REFUSED)
def test_what_has_no_such_form_says_why(bundles, tmp_path, name, to, message):
    done = CliRunner().invoke(app, ["export", str(bundles / name), "--to", to, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError) and message in str(done.exception) and "--to mlflow" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "message"), [("onnx", "uses several models in turn"), ("transformers", "uses several models in turn")]
)
def test_a_cascade_is_no_single_model(tmp_path, tiny_cache, to, message):
    made = make_run(tmp_path / "run", tiny_cache, "cascade", pool=300, disagreement=0.01).bundle
    with pytest.raises(InputError, match=message):
        export_bundle(made, to, tmp_path / "out")
    assert bundle.load(export_bundle(made, "hub", tmp_path / "hub") / "bundle").variant == "cascade"


def test_a_prefix_before_a_pair_is_refused(encoder, contents, tmp_path):
    reference = Prefixed(encoder / "t.json", contents.tiers[0].reference.head, "query: ")
    bundle.save(tmp_path / "b", changed(contents, reference, task="pairs", prefix="query: "))
    for to in ("onnx", "transformers"):
        with pytest.raises(InputError, match="a prefix before the first text of a pair"):
            export_bundle(tmp_path / "b", to, tmp_path / "out")


def test_an_encoder_without_some_of_its_heads_is_not_given_back(contents, tmp_path):
    model = make_encoder()
    with torch.no_grad():
        layer = model.encoder.layer[0].attention
        size = model.config.hidden_size // model.config.num_attention_heads
        layer.output.dense.weight[:, :size] = 0  # nothing reads the first head: the export drops it
    make_tokenizer(tmp_path / "t.json")
    export_encoder(model, tmp_path / "t.json", tmp_path / "e")

    class Cut(TorchReference):
        def logits(self, texts):
            return self.head.logits(embed(model, self.tokenizer.encode(texts)))

    head = contents.tiers[0].reference.head
    files = bundle.pack_graphs(tmp_path / "e", head, MAX_TOKENS).files
    bundle.save(tmp_path / "b", changed(contents, Cut(tmp_path / "t.json", head), files=files))
    with pytest.raises(InputError, match="not a complete BERT"):
        export_bundle(tmp_path / "b", "transformers", tmp_path / "out")
    out = export_bundle(tmp_path / "b", "onnx", tmp_path / "out")
    np.testing.assert_allclose(by_onnxruntime(out, TEXTS), bundle.load(tmp_path / "b").probabilities(TEXTS), atol=1e-5)


@pytest.mark.parametrize("to", TARGETS)
def test_a_place_that_is_taken_and_a_bundle_that_is_damaged(bundles, tmp_path, to):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        export_bundle(bundles / "encoder", to, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    with pytest.raises(BundleError):
        export_bundle(tmp_path / "out", to, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command_says_where_and_how(bundles, tmp_path):
    done = CliRunner().invoke(app, ["export", str(bundles / "static"), "--to", "onnx", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "how to use it" in done.output and json.loads((tmp_path / "out" / "config.json").read_text())["refsynth"]["task"]


@pytest.mark.parametrize("named", ["run", "run/bundle"])
def test_a_run_is_exported_by_its_own_name_too(bundles, tmp_path, named):
    (tmp_path / "run" / "steps").mkdir(parents=True)
    shutil.copytree(bundles / "encoder", tmp_path / "run" / "bundle")
    done = CliRunner().invoke(app, ["export", str(tmp_path / named), "--to", "hub", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "bundle" / "manifest.json").is_file()
