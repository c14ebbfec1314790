"""The packed e5 file: small files made here, garbage, and gguf's own Q4_0 as the independent reference."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.errors import ModelError
from refsynth.models import e5

HIDDEN, LAYERS, HEADS, FF, VOCABULARY, POSITIONS, TYPES = 32, 2, 2, 64, 5, 7, 2
MATRICES = {"q": (32, 32), "k": (32, 32), "v": (32, 32), "ao": (32, 32), "fi": (64, 32), "fo": (32, 64)}


def quantize(values):
    """Q4_0 as llama.cpp's Python package packs it."""
    from gguf import GGMLQuantizationType, quants

    return quants.quantize(values.astype(np.float32), GGMLQuantizationType.Q4_0)


def tensors(rng):
    """Every tensor of the model: name -> (raw bytes, dtype)."""
    normal = lambda *shape: rng.normal(size=shape).astype("<f4")  # noqa: E731
    found = {"emb.word": (quantize(normal(VOCABULARY, HIDDEN)).tobytes(), 1)}
    plain = {"emb.pos": (POSITIONS, HIDDEN), "emb.type": (TYPES, HIDDEN), "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in MATRICES.items():
            found[f"l{layer}.{name}.w"] = (quantize(normal(*shape)).tobytes(), 1)
            plain[f"l{layer}.{name}.b"] = shape[:1]
        for name in ("aln", "oln"):
            plain[f"l{layer}.{name}.w"] = plain[f"l{layer}.{name}.b"] = (HIDDEN,)
    return found | {name: (normal(*shape).tobytes(), 0) for name, shape in plain.items()}


def packed(parts, *, magic=b"E5S1", version=1, block=32, heads=HEADS):
    pieces, blob, norm = [b"<s>", b"ab"], b"<s>ab", struct.pack("<IBI", 65, 1, 97)
    head = magic + struct.pack("<I7ifi", version, HIDDEN, LAYERS, heads, FF, VOCABULARY, POSITIONS, TYPES, 1e-12, block)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(blob)) + struct.pack("<3I2f", 0, 3, 5, 0.0, -1.0) + blob
    head += struct.pack("<iI", 1, len(norm)) + norm + struct.pack("<i", len(parts))
    size = len(head) + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in parts)
    directory, body = b"", b""
    for name, (raw, dtype) in parts.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", dtype, len(raw), size + len(body), len(raw))
        body += raw
    return head + directory + body


PARTS = tensors(np.random.default_rng(0))
DATA = packed(PARTS)


def test_parse():
    parsed = e5.parse(DATA)
    assert parsed.header[:7] == (HIDDEN, LAYERS, HEADS, FF, VOCABULARY, POSITIONS, TYPES) and parsed.pad == 1
    assert {name: bytes(raw) for name, raw in parsed.tensors.items()} == {name: raw for name, (raw, _) in PARTS.items()}


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_dequantize_agrees_with_gguf(rows, blocks, seed):
    from gguf import GGMLQuantizationType, quants

    raw = quantize(np.random.default_rng(seed).normal(size=(rows, 32 * blocks)) * 3)
    expected = quants.dequantize(raw, GGMLQuantizationType.Q4_0)
    assert np.array_equal(e5.dequantize(raw.tobytes(), (rows, 32 * blocks)), expected)


def test_dequantize_one_block_by_hand():
    block = np.float16(0.5).tobytes() + bytes([0x80 | index for index in range(16)])  # high nibble 8, low nibble 0..15
    assert e5.dequantize(block, (1, 32)).tolist() == [[(index - 8) * 0.5 for index in range(16)] + [0.0] * 16]


def test_converted_folder_loads_in_transformers_without_a_missing_key(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "e5.bin").write_bytes(DATA)
    e5.convert(tmp_path / "e5.bin", tmp_path)
    model, info = transformers.AutoModel.from_pretrained(
        tmp_path, local_files_only=True, add_pooling_layer=False, output_loading_info=True
    )
    assert not any(info.values())
    word = model.embeddings.word_embeddings.weight.detach().numpy()
    assert np.array_equal(word, e5.dequantize(PARTS["emb.word"][0], (VOCABULARY, HIDDEN)))
    assert model.config.num_attention_heads == HEADS and model.config.layer_norm_eps == 1e-12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"E5S1",
        b"GGUF" + DATA[4:],
        packed(PARTS, version=2),
        packed(PARTS, block=64),
        packed(PARTS, heads=0),
        packed(PARTS, heads=5),
    ],
    ids=["empty", "magic only", "other magic", "version", "block", "no heads", "odd heads"],
)
def test_not_the_format(data):
    with pytest.raises(ModelError, match="not a packed e5 model"):
        e5.parse(data)


@pytest.mark.parametrize("name", ["emb.word", "emb.pos", "l1.fo.w", "l0.aln.b"])
def test_missing_or_short_tensor(name):
    with pytest.raises(ModelError, match=name):
        e5.state_dict(e5.parse(packed({key: value for key, value in PARTS.items() if key != name})))
    raw, dtype = PARTS[name]
    with pytest.raises(ModelError, match="expected"):
        e5.state_dict(e5.parse(packed({**PARTS, name: (raw[:-2], dtype)})))


@given(st.integers(0, len(DATA) - 1))
@settings(deadline=None)
def test_cut_file_is_a_model_error(end):
    with pytest.raises(ModelError):
        e5.state_dict(e5.parse(DATA[:end]))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8))
@settings(deadline=None)
def test_garbage_never_ends_in_another_error(changes):
    data = bytearray(DATA)
    for place, value in changes:
        data[place] = value
    with contextlib.suppress(ModelError):
        e5.state_dict(e5.parse(bytes(data)))
