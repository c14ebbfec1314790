"""Converting the packed form of multilingual-e5-small (`E5S1`) to a BERT folder that transformers loads.

Little-endian: magic, u32 version; i32 hidden, layers, heads, ff, vocabulary, positions, token types; f32 epsilon, i32 block;
i32 pieces, bos, eos, pad, unk; u64 blob length; u32 offsets [pieces + 1], f32 scores [pieces], the blob; i32 count and u32 length
of a normalization map, the map; i32 tensor count and per tensor: u16 name length, name, u8 dtype, u32 n, u64 offset, u64 bytes.
A matrix is Q4_0 (blocks of an fp16 scale and 16 bytes, low nibbles first), all else f32. Needs numpy and safetensors only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.errors import ModelError

Floats = NDArray[np.float32]

MAGIC, VERSION, BLOCK, BLOCK_BYTES = b"E5S1", 1, 32, 18
_LIMIT = 1 << 24  # far above every count in such a file; a larger one is garbage that must not allocate memory


class Header(NamedTuple):
    """The shape of the model."""

    hidden: int
    layers: int
    heads: int
    ff: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    block: int


class Packed(NamedTuple):
    """A parsed file: the header, the id of the padding token, and the raw bytes of each tensor by name."""

    header: Header
    pad: int
    tensors: Mapping[str, memoryview]


class _Cursor:
    """Reads forward through the bytes, and never past their end."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def take(self, layout: str) -> tuple[int | float, ...]:
        return struct.unpack(f"<{layout}", self.skip(struct.calcsize(f"<{layout}")))

    def count(self, layout: str = "i") -> int:
        value = int(self.take(layout)[0])
        if not 0 <= value <= _LIMIT:
            raise ValueError(f"a count of {value}")
        return value

    def skip(self, length: int) -> memoryview:
        if self._at + length > len(self._data):
            raise ValueError("it ends too early")
        self._at += length
        return self._data[self._at - length : self._at]


def parse(data: bytes) -> Packed:
    """Return the parts of a packed file.

    Raises:
        ModelError: the data are not of this format, or are truncated or inconsistent.
    """
    try:
        return _parse(memoryview(data))
    except (ValueError, struct.error) as error:
        raise ModelError(f"not a packed e5 model: {error}", remedy="fetch it again: refsynth models fetch e5") from error


def _parse(data: memoryview) -> Packed:
    cursor = _Cursor(data)
    if cursor.skip(4) != MAGIC:
        raise ValueError(f"no {MAGIC.decode()} at its start")
    (version,) = cursor.take("I")
    if version != VERSION:
        raise ValueError(f"version {version}, expected {VERSION}")
    hidden, layers, heads, ff, vocabulary, positions, types = (cursor.count() for _ in range(7))
    epsilon, block = cursor.take("fi")
    header = Header(hidden, layers, heads, ff, vocabulary, positions, types, float(epsilon), int(block))
    if header.block != BLOCK or header.hidden % BLOCK or header.ff % BLOCK or not header.heads or header.hidden % header.heads:
        raise ValueError(f"impossible shape {tuple(header)}")
    pieces, _, _, pad, _ = cursor.take("5i")
    if not 0 <= pieces <= _LIMIT:
        raise ValueError(f"{pieces} pieces")
    blob = cursor.count("Q")
    cursor.skip(4 * (int(pieces) + 1) + 4 * int(pieces) + blob)
    cursor.count()
    cursor.skip(cursor.count("I"))
    return Packed(header, int(pad), dict(_directory(cursor, data)))


def _directory(cursor: _Cursor, data: memoryview) -> Iterator[tuple[str, memoryview]]:
    for _ in range(cursor.count()):
        name = bytes(cursor.skip(cursor.count("H"))).decode()
        _, _, offset, length = (int(value) for value in cursor.take("BIQQ"))
        if offset + length > len(data):
            raise ValueError(f"tensor {name} lies outside the file")
        yield name, data[offset : offset + length]


def dequantize(blocks: bytes | memoryview, shape: tuple[int, int]) -> Floats:
    """Return the matrix of Q4_0 blocks: value = (nibble - 8) x scale.

    Raises:
        ModelError: the number of bytes does not fit the shape, or a scale is not finite.
    """
    count = shape[0] * shape[1] // BLOCK
    if len(blocks) != count * BLOCK_BYTES or shape[1] % BLOCK:
        raise ModelError(f"{len(blocks)} bytes of Q4_0", expected=f"{count * BLOCK_BYTES} for shape {shape}")
    table = np.frombuffer(blocks, np.uint8).reshape(count, BLOCK_BYTES)
    scale = table[:, :2].copy().view(np.float16).astype(np.float32)
    if not np.isfinite(scale).all():
        raise ModelError("a Q4_0 block has a scale that is no number", remedy="fetch it again: refsynth models fetch e5")
    nibbles = np.concatenate([table[:, 2:] & 15, table[:, 2:] >> 4], axis=1)
    return np.asarray((nibbles.astype(np.float32) - 8) * scale).reshape(shape)


_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def state_dict(packed: Packed) -> dict[str, Floats]:
    """Return the weights under the names of transformers' BertModel without pooler.

    Raises:
        ModelError: a tensor is missing or has the wrong size.
    """
    header = packed.header
    h, f = header.hidden, header.ff
    state = {
        "embeddings.word_embeddings.weight": _matrix(packed, "emb.word", (header.vocabulary, h)),
        "embeddings.position_embeddings.weight": _plain(packed, "emb.pos", (header.positions, h)),
        "embeddings.token_type_embeddings.weight": _plain(packed, "emb.type", (header.types, h)),
        "embeddings.LayerNorm.weight": _plain(packed, "emb.ln.w", (h,)),
        "embeddings.LayerNorm.bias": _plain(packed, "emb.ln.b", (h,)),
    }
    shapes = {"q": (h, h), "k": (h, h), "v": (h, h), "ao": (h, h), "fi": (f, h), "fo": (h, f)}
    for layer in range(header.layers):
        for short, long in _LAYER.items():
            source, target = f"l{layer}.{short}", f"encoder.layer.{layer}.{long}"
            shape = shapes.get(short)
            state[f"{target}.weight"] = _matrix(packed, f"{source}.w", shape) if shape else _plain(packed, f"{source}.w", (h,))
            state[f"{target}.bias"] = _plain(packed, f"{source}.b", (shape[0] if shape else h,))
    return state


def _raw(packed: Packed, name: str) -> memoryview:
    if name not in packed.tensors:
        raise ModelError(f"the packed e5 model has no tensor {name}", remedy="fetch it again: refsynth models fetch e5")
    return packed.tensors[name]


def _matrix(packed: Packed, name: str, shape: tuple[int, int]) -> Floats:
    return dequantize(_raw(packed, name), shape)


def _plain(packed: Packed, name: str, shape: tuple[int, ...]) -> Floats:
    raw = _raw(packed, name)
    if len(raw) != 4 * int(np.prod(shape)):
        raise ModelError(f"tensor {name} has {len(raw)} bytes", expected=f"{4 * int(np.prod(shape))} for shape {shape}")
    return np.frombuffer(raw, "<f4").reshape(shape)


def convert(packed: Path, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` of the model into a folder."""
    from safetensors.numpy import save_file

    parsed = parse(packed.read_bytes())
    header = parsed.header
    save_file(state_dict(parsed), folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": header.hidden,
        "initializer_range": 0.02,
        "intermediate_size": header.ff,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": header.positions,
        "model_type": "bert",
        "num_attention_heads": header.heads,
        "num_hidden_layers": header.layers,
        "pad_token_id": parsed.pad,
        "type_vocab_size": header.types,
        "vocab_size": header.vocabulary,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
