"""The export gives the encoder's embeddings: closely in the safe graph, nearly in the int8 one; weights are stored once."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import DistilBertConfig, DistilBertModel

from refsynth.compress.export import INT8, SAFE, TOKENIZER, WEIGHTS, export_encoder
from refsynth.compress.quantize import quantize_rows
from refsynth.core.errors import ModelError
from refsynth.models.int8 import in_int8, int8_logits_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors
from tests.support.processor import EXACT_SUMS
from tests.support.tiny_encoder import MAX_TOKENS, embed, make_encoder, make_tokenizer

TEXTS = ("a", "the rain is late", "is it open? " * 2, "our list: nine, ten, eleven", "x")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    return export_encoder(make_encoder(), make_tokenizer(folder / "t.json"), folder / "out").folder


def encoder(folder: Path, name: str) -> OnnxEncoder:
    return OnnxEncoder(folder / name, folder / TOKENIZER, max_tokens=MAX_TOKENS, threads=1)


def test_the_folder_holds_four_files_and_the_graphs_share_their_weights(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {INT8, SAFE, WEIGHTS, TOKENIZER}
    places = [
        {
            tensor.name: [entry.value for entry in tensor.external_data]
            for tensor in graph.graph.initializer
            if tensor.external_data
        }
        for graph in (onnx.load(exported / name, load_external_data=False) for name in (INT8, SAFE))
    ]
    shared = places[0].keys() & places[1].keys()
    assert any(name.endswith("_quantized") for name in shared)
    assert all(places[0][name] == places[1][name] for name in shared)
    assert {name for place in places for name, (location, *_) in place.items() if location != WEIGHTS} == set()


TWO_TABLES = """
import hashlib
import numpy as np
from onnx import helper, numpy_helper
from refsynth.compress.quantize import quantize_tables

tables = [numpy_helper.from_array(np.full((200, 2), value, np.float32), name) for value, name in enumerate("abcdef")]
nodes = [helper.make_node("Gather", [table.name, "ids"], [f"out_{table.name}"], axis=0) for table in tables]
graph = helper.make_graph(nodes, "g", [], [], initializer=tables)
quantize_tables(graph)
print(hashlib.sha256(graph.SerializeToString()).hexdigest())
"""


def test_the_same_graph_gives_the_same_bytes_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", TWO_TABLES], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1


def test_every_weight_matrix_is_int8(tmp_path: Path) -> None:
    model = make_encoder()
    report = export_encoder(model, make_tokenizer(tmp_path / "t.json"), tmp_path / "out")
    # Per layer: query-key-value fused, attention output, two of the feed-forward part; and the table of 400 word embeddings.
    assert report.quantized == 2 * 4 + 1
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "pooler" not in name)
    assert (tmp_path / "out" / WEIGHTS).stat().st_size < 1.5 * matrices


@pytest.mark.parametrize(("name", "tolerance"), [(SAFE, 0.02), (INT8, 0.1)])
def test_embeddings_agree_with_torch(exported: Path, name: str, tolerance: float) -> None:
    ours = encoder(exported, name)
    reference = embed(make_encoder(), ours.tokenizer.encode(TEXTS))
    found = ours.encode(TEXTS)
    assert found.shape == reference.shape == (len(TEXTS), 32)
    assert np.abs(found - reference).max() < tolerance
    other = embed(make_encoder(seed=1), ours.tokenizer.encode(TEXTS))
    assert np.abs(found - other).max() > 2 * tolerance  # the tolerance tells encoders apart


@pytest.mark.parametrize("name", [SAFE, INT8])
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("abcdeinorst ,.?7 é\n\u4e2d"), max_size=60), min_size=1, max_size=9))
def test_no_graph_depends_on_who_shares_the_batch(exported: Path, name: str, texts: list[str]) -> None:
    ours = open_once(exported, name)
    alone = np.concatenate([ours.encode([text]) for text in texts])
    np.testing.assert_allclose(ours.encode(texts), alone, atol=1e-5)


@cache
def open_once(folder: Path, name: str) -> OnnxEncoder:
    return encoder(folder, name)


def test_an_outlier_in_one_text_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    model = make_encoder()
    with torch.no_grad():  # the piece `a` has embeddings that one scale for all would have to make room for
        model.embeddings.word_embeddings.weight[4] *= 1e3
    folder = export_encoder(model, make_tokenizer(tmp_path / "t.json"), tmp_path / "out").folder
    ours = encoder(folder, INT8)
    np.testing.assert_allclose(ours.encode(["the rain", "a"])[0], ours.encode(["the rain"])[0], atol=1e-6)


def test_export_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = make_encoder().train()
    attention = model.config._attn_implementation
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_encoder(model, make_tokenizer(tmp_path / "t.json"), tmp_path / "out")
    assert model.training
    assert model.config._attn_implementation == attention
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_encoder_whose_attention_is_not_recognised_is_refused(tmp_path: Path) -> None:
    class Odd(DistilBertModel):
        """A model whose configuration promises more layers than it has."""

    config = DistilBertConfig(vocab_size=400, dim=32, n_layers=1, n_heads=4, hidden_dim=64, max_position_embeddings=64)
    model = Odd(config).eval()
    model.config.num_hidden_layers = 3
    with pytest.raises(ModelError, match="of 3 attention layers"):
        export_encoder(model, make_tokenizer(tmp_path / "t.json"), tmp_path / "out")


@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(-1e3, 1e3, width=32)))
def test_quantised_rows_are_within_half_a_step(table: np.ndarray) -> None:
    values, scales = quantize_rows(table)
    assert values.dtype == np.int8
    assert np.abs(values.astype(np.int64)).max() <= 127
    assert (np.abs(values * scales - table) <= 0.5001 * scales).all()


@pytest.mark.skipif(not EXACT_SUMS, reason="this processor has no VNNI: sums of 8-bit products saturate, which is not rounding")
def test_the_simulation_rounds_as_the_graph_does(tiny_folder: Path, tmp_path: Path) -> None:
    network = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)
    network.save(tmp_path / "saved")
    before = network.encode(TEXTS)
    export_encoder(network.transformer, tmp_path / "saved" / TOKENIZER, tmp_path / "out")
    int8, simulated = encoder(tmp_path / "out", INT8).encode(TEXTS), in_int8(network).encode(TEXTS)
    assert np.abs(int8 - before).max() > 0.001  # rounding shows
    assert np.abs(int8 - simulated).max() < 0.2 * np.abs(int8 - before).max()
    assert (network.encode(TEXTS) == before).all()


def test_what_has_no_encoder_says_nothing_in_int8(tiny_folder: Path) -> None:
    network = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)
    head = LinearHead(np.eye(32)[:, :3], np.zeros(3))
    labels = ("a", "b", "c")
    one, two = EncoderPredictor(labels, network, head), EncoderPredictor(labels, network, LinearHead(-head.weights, head.bias))
    words = TfidfPredictor(labels, TfidfVectors([]), LinearHead(np.zeros((0, 3)), np.zeros(3)))
    said = int8_logits_of({"one": one, "words": words, "two": two}, TEXTS)
    assert set(said) == {"one", "two"}
    np.testing.assert_allclose(said["one"], -said["two"])
    np.testing.assert_allclose(said["one"], one.logits(TEXTS), atol=0.1)
