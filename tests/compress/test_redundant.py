"""What a smaller model leaves redundant is left out by the export, which changes nothing of what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from refsynth.compress.export import INT8, SAFE, TOKENIZER, export_encoder, fused_graph
from refsynth.compress.graph import drop_empty_heads, slim
from refsynth.compress.shape import drop_heads
from refsynth.compress.vocabulary import common_tokens, lower_rank, merge_words, used_tokens
from refsynth.core.errors import InputError
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder

TEXTS = ["the lamp is late", "my parcel came in two pieces", "order 42 - where?", "no refund, no letter"]
HEADS, LAYERS = 4, 2


@pytest.fixture(scope="module")
def encoder(tiny_folder: Path) -> TransformerEncoder:
    return TransformerEncoder(tiny_folder, max_tokens=24).eval()


def table_of(encoder: TransformerEncoder) -> torch.Tensor:
    return encoder.transformer.get_input_embeddings().weight.detach()


def export(encoder: TransformerEncoder, folder: Path) -> tuple[int, dict[str, OnnxEncoder]]:
    encoder.save(folder / "saved")
    written = export_encoder(encoder.transformer, folder / "saved" / TOKENIZER, folder / "out")
    graphs = {
        name: OnnxEncoder(folder / "out" / name, folder / "out" / TOKENIZER, max_tokens=24, threads=1) for name in (INT8, SAFE)
    }
    return written.size, graphs


@pytest.mark.parametrize("how", ["heads", "words", "rank"])
def test_an_export_is_smaller_and_says_the_same(encoder: TransformerEncoder, tmp_path: Path, how: str) -> None:
    smaller = {
        "heads": lambda: drop_heads(encoder, 3, lambda masked: [masked.embed(masked.tokenize(TEXTS))[:, 0].sum()]),
        "words": lambda: merge_words(encoder, used_tokens(encoder, TEXTS)),
        "rank": lambda: lower_rank(encoder, 4, used_tokens(encoder, TEXTS)),
    }[how]()
    whole, _ = export(encoder, tmp_path / "whole")
    size, graphs = export(smaller, tmp_path / "smaller")
    assert size < whole - 5000
    np.testing.assert_allclose(graphs[SAFE].encode(TEXTS), smaller.encode(TEXTS), atol=0.05)
    np.testing.assert_allclose(graphs[INT8].encode(TEXTS), smaller.encode(TEXTS), atol=0.1)


def test_empty_heads_change_nothing_by_going(encoder: TransformerEncoder, tmp_path: Path) -> None:
    few = drop_heads(encoder, 3, lambda masked: [masked.embed(masked.tokenize(TEXTS))[:, 0].sum()])
    graph = fused_graph(few.transformer)
    assert drop_empty_heads(graph.graph) == HEADS * LAYERS - 3
    counts = [helper.get_attribute_value(a) for n in graph.graph.node for a in n.attribute if a.name == "num_heads"]
    assert sum(counts) == 3
    assert min(counts) == 1
    (tmp_path / "few.onnx").write_bytes(graph.SerializeToString())
    few.save(tmp_path / "saved")
    runs = OnnxEncoder(tmp_path / "few.onnx", tmp_path / "saved" / TOKENIZER, max_tokens=24, threads=1)
    np.testing.assert_allclose(runs.encode(TEXTS), few.encode(TEXTS), atol=1e-5)


def test_heads_that_matter_stay(encoder: TransformerEncoder) -> None:
    deaf = drop_heads(encoder, HEADS * LAYERS, lambda masked: [])
    with torch.no_grad():  # all but the second of each layer say nothing to anybody
        for layer in deaf.transformer.encoder.layer:
            layer.attention.output.dense.weight[:, :8] = 0
            layer.attention.output.dense.weight[:, 16:] = 0
    before = deaf.encode(TEXTS)
    few = drop_heads(deaf, LAYERS, lambda masked: [masked.embed(masked.tokenize(TEXTS))[:, 0].sum()])
    np.testing.assert_allclose(few.encode(TEXTS), before, atol=1e-5)


def test_heads_that_went_do_not_come_back_by_training(encoder: TransformerEncoder) -> None:
    few = drop_heads(encoder, 3, lambda masked: [masked.embed(masked.tokenize(TEXTS))[:, 0].sum()])
    optimiser = torch.optim.AdamW(few.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        few.embed(few.tokenize(TEXTS))[:, 0].sum().backward()
        optimiser.step()
    assert drop_empty_heads(fused_graph(few.transformer).graph) == HEADS * LAYERS - 3


def test_words_of_the_texts_keep_their_rows_and_others_take_their_neighbours(encoder: TransformerEncoder) -> None:
    kept = used_tokens(encoder, TEXTS)
    merged, old = table_of(merge_words(encoder, kept)), table_of(encoder)
    assert torch.equal(merged[sorted(kept)], old[sorted(kept)])
    distinct = {row.numpy().tobytes() for row in merged}
    assert distinct == {old[index].numpy().tobytes() for index in kept}
    other = next(index for index in range(len(old)) if index not in kept)
    near = max(sorted(kept), key=lambda index: torch.cosine_similarity(old[index], old[other], dim=0).item())
    assert torch.equal(merged[other], old[near])


def test_common_tokens_are_the_first_words_in_the_scripts_of_the_texts(encoder: TransformerEncoder) -> None:
    size = len(encoder.tokenizer.get_vocab())
    some, more = (common_tokens(encoder, TEXTS, share) for share in (0.1, 0.2))
    assert some < more
    assert len(some) == round(0.1 * size)
    names = encoder.tokenizer.convert_ids_to_tokens(sorted(some))
    assert all(name.lstrip("#").isalpha() for name in names)
    assert common_tokens(encoder, ["где посылка"], 1.0) == frozenset()


def test_a_low_rank_table_keeps_what_the_texts_use_best(encoder: TransformerEncoder) -> None:
    kept = sorted(used_tokens(encoder, TEXTS))
    old, low = table_of(encoder), table_of(lower_rank(encoder, 8, kept))
    assert int(torch.linalg.matrix_rank(low, rtol=1e-4)) == 8
    lost = (low - old).norm(dim=1) / old.norm(dim=1).clamp(min=1e-6)  # that of padding is zero
    others = [index for index in range(len(old)) if index not in set(kept)]
    assert lost[kept].mean() < lost[others].mean()


@given(st.integers(2, 20), st.integers(1, 8), st.integers(0, 2**16))
def test_a_table_that_is_looked_up_otherwise_has_the_same_rows(distinct: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(distinct, rank)) @ rng.normal(size=(rank, 8))
    table = rows[rng.integers(0, distinct, 200)].astype(np.float32)
    node = helper.make_node("Gather", ["table", "ids"], ["out"], axis=0)
    ends = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8]),
    ]
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(table, "table")]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    slim(model.graph)
    assert sum(np.prod(tensor.dims) for tensor in model.graph.initializer) < table.size
    from onnx.reference import ReferenceEvaluator

    found = ReferenceEvaluator(model).run(None, {"ids": np.arange(200)})[0]
    np.testing.assert_allclose(found, table, atol=1e-4)


def test_a_table_without_anything_redundant_stays(encoder: TransformerEncoder) -> None:
    before = fused_graph(encoder.transformer)
    after = fused_graph(encoder.transformer)
    slim(after.graph)
    assert after == before


@pytest.mark.parametrize("count", [0, 1, 9])
def test_what_cannot_be_is_refused(encoder: TransformerEncoder, count: int) -> None:
    with pytest.raises(InputError, match="2 to 8"):
        drop_heads(encoder, count, lambda masked: [])
    with pytest.raises(InputError, match="1 to 32"):
        lower_rank(encoder, 33, ())
    with pytest.raises(InputError, match="no token"):
        merge_words(encoder, ())
