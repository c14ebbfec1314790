"""A student of fewer layers or units comes nearer to its teacher by distillation; the teacher stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from refsynth.compress.export import INT8, TOKENIZER, export_encoder
from refsynth.compress.forms import FULL, RECIPES, Teacher, cut, shrink
from refsynth.compress.shape import keep_layers, narrow, spread
from refsynth.core.errors import InputError
from refsynth.core.types import Example
from refsynth.kinds.metrics import softmax
from refsynth.learning.tuning.distill import Transfer, distill, soft_loss
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from tests.support.tiny_encoder import MAX_TOKENS, make_encoder, make_tokenizer

LABELS = ("late", "broken", "other")
TEXTS = [
    f"{who} {what} is {how}"
    for who in ("my", "her", "our")
    for what in ("lamp", "order", "parcel")
    for how in ("late", "in two", "ok")
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    make_encoder().save_pretrained(folder)
    path = make_tokenizer(folder / "tokenizer.json")
    specials = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_file=str(path), **specials).save_pretrained(folder)
    encoder = TransformerEncoder(folder, max_tokens=MAX_TOKENS)
    head = LinearHead(np.random.default_rng(0).normal(size=(32, 3)) * 4, np.zeros(3))
    predictor = EncoderPredictor(LABELS, encoder, head)
    rows = [
        Example(str(i), text, LABELS[int(c)])
        for i, (text, c) in enumerate(zip(TEXTS, predictor.logits(TEXTS).argmax(1), strict=True))
    ]
    return Teacher(predictor, encoder, rows)


def apart(one: EncoderPredictor, other: EncoderPredictor) -> float:
    return float(np.abs(softmax(one.logits(TEXTS)) - softmax(other.logits(TEXTS))).mean())


@pytest.mark.parametrize(
    ("count", "of", "kept"), [(3, 6, (1, 3, 5)), (2, 6, (2, 5)), (4, 6, (0, 2, 3, 5)), (6, 6, (0, 1, 2, 3, 4, 5)), (1, 2, (1,))]
)
def test_layers_are_spread_and_end_with_the_last(count: int, of: int, kept: tuple[int, ...]) -> None:
    assert spread(count, of) == kept


def test_soft_loss_is_the_divergence() -> None:
    said, taught = np.array([[0.5, -1.0, 2.0]]), np.array([[0.2, 0.5, 0.3]])
    expected = 4 * (taught * np.log(taught / softmax(said / 2))).sum()
    found = soft_loss(torch.tensor(said), torch.tensor(taught), temperature=2.0)
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("transfer", [Transfer(steps=40), Transfer(steps=40, hidden=0, attention=0)], ids=["all", "answers"])
def test_a_student_comes_nearer_to_its_teacher(teacher: Teacher, transfer: Transfer) -> None:
    before = {name: value.clone() for name, value in teacher.encoder.state_dict().items()}
    untrained = EncoderPredictor(LABELS, keep_layers(teacher.encoder, (1,)), teacher.predictor.head)
    student = distill([teacher.predictor], keep_layers(teacher.encoder, (1,)), TEXTS, matched=(1,), seed=0, transfer=transfer)
    assert apart(student, teacher.predictor) < 0.6 * apart(untrained, teacher.predictor)
    assert all(torch.equal(value, before[name]) for name, value in teacher.encoder.state_dict().items())


def test_a_frozen_teacher_has_a_student_that_learns(teacher: Teacher) -> None:
    """A fine-tuned encoder comes with its weights frozen, and so do its copies."""
    free, frozen = (keep_layers(teacher.encoder, (1,)).requires_grad_(moves) for moves in (True, False))
    students = [
        distill([teacher.predictor], one, TEXTS, matched=(1,), seed=0, transfer=Transfer(steps=5)) for one in (free, frozen)
    ]
    np.testing.assert_array_equal(students[0].logits(TEXTS), students[1].logits(TEXTS))
    assert not any(weight.requires_grad for weight in frozen.parameters())


@pytest.mark.slow
def test_a_student_is_the_same_for_the_same_seed(teacher: Teacher) -> None:
    one, same, other = (shrink(teacher, "half", TEXTS, seed=seed).logits(TEXTS) for seed in (1, 1, 2))
    assert (one == same).all()
    assert not (one == other).all()


@pytest.mark.slow
def test_several_teachers_teach_their_mean(teacher: Teacher) -> None:
    turned = LinearHead(teacher.predictor.head.weights[:, ::-1].copy(), np.zeros(3))
    second = EncoderPredictor(LABELS, teacher.encoder, turned)
    both = [teacher.predictor, second]
    student = distill(
        both, keep_layers(teacher.encoder, (0, 1)), TEXTS, matched=(0, 1), seed=0, transfer=Transfer(steps=60, temperature=1)
    )
    mean = sum(softmax(one.logits(TEXTS)) for one in both) / 2
    found = softmax(student.logits(TEXTS))
    assert np.abs(found - mean).mean() < 0.5 * np.abs(softmax(teacher.predictor.logits(TEXTS)) - mean).mean()


def test_narrow_keeps_the_units_that_matter(teacher: Teacher) -> None:
    encoder = keep_layers(teacher.encoder, (0, 1))
    with torch.no_grad():  # half of the units say nothing to anybody
        for layer in encoder.transformer.encoder.layer:
            layer.output.dense.weight[:, ::2] = 0
    rows = encoder.tokenize(TEXTS)
    smaller = narrow(encoder, 32, lambda masked: [masked.embed(rows)[:, 0].sum()])
    assert smaller.transformer.encoder.layer[0].intermediate.dense.out_features == 32
    assert smaller.transformer.config.intermediate_size == 32
    np.testing.assert_allclose(smaller.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_every_form_is_written_and_exported(teacher: Teacher, name: str, tmp_path: Path) -> None:
    form, kept = cut(teacher, name, TEXTS)
    assert isinstance(form.encoder, TransformerEncoder)
    assert name == FULL or len(kept) == form.encoder.transformer.config.num_hidden_layers <= 2
    form.encoder.save(tmp_path / "saved")
    again = TransformerEncoder(tmp_path / "saved", max_tokens=MAX_TOKENS)
    np.testing.assert_allclose(again.encode(TEXTS), form.encoder.encode(TEXTS), atol=1e-6)
    export_encoder(form.encoder.transformer, tmp_path / "saved" / TOKENIZER, tmp_path / "out")
    int8 = OnnxEncoder(tmp_path / "out" / INT8, tmp_path / "out" / TOKENIZER, max_tokens=MAX_TOKENS, threads=1)
    assert np.abs(int8.encode(TEXTS) - form.encoder.encode(TEXTS)).max() < 0.1


def test_the_full_form_is_the_teacher(teacher: Teacher) -> None:
    assert shrink(teacher, FULL, TEXTS, seed=0) is teacher.predictor


def test_what_cannot_be_is_refused(teacher: Teacher) -> None:
    with pytest.raises(InputError, match="with 2"):
        keep_layers(teacher.encoder, (1, 2))
    with pytest.raises(InputError, match="1 to 64"):
        narrow(teacher.encoder, 65, lambda encoder: [])
    with pytest.raises(InputError, match="0 texts"):
        distill([teacher.predictor], teacher.encoder, [], matched=(0, 1), seed=0, transfer=Transfer())
