"""Whoever trains leaves the random generators of the caller's program as they were."""

import pickle
import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import refsynth
from refsynth.compress.forms import RECIPES, Teacher, shrink
from refsynth.compress.static import fit_static
from refsynth.core.types import Prompt
from refsynth.learning.ensemble import DistilledLearner, EnsembleLearner, RememberedLearner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.objective import Robust
from refsynth.learning.tuning.soup import SoupLearner
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.reference import FolderGenerator
from refsynth.models.seeding import seeded
from refsynth.synthesis.reinforcement.policy import Policy
from tests.support.learners import LABELS, MAKERS, TRAIN
from tests.support.tiny_encoder import MAX_TOKENS

TEXTS = [example.text for example in TRAIN]
SHORT = TrainingRecipe(epochs=1, batch_size=4)


def states():
    """The generators that are one for the whole program."""
    legacy = pickle.dumps(np.random.get_state())  # noqa: NPY002  (it is what other libraries may draw from)
    return torch.get_rng_state().numpy().tobytes(), legacy, random.getstate()


@pytest.fixture(autouse=True)
def _no_seed_of_others():
    """Where the caller stands must not be where a seed would put it."""
    torch.manual_seed(987)
    torch.rand(3)


@pytest.fixture(scope="module")
def encoder(tiny_folder):
    return TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)


def finetuned(encoder, **options):
    return FinetuneLearner(LABELS, encoder, recipe=SHORT, **options)


def ensemble(encoder):
    members = {"finetune": RememberedLearner(finetuned(encoder)), "frozen": RememberedLearner(MAKERS["frozen"](encoder))}
    return EnsembleLearner(LABELS, members, rule="average")


def fits(make):
    return lambda encoder, folder: make(encoder).fit(TRAIN, TRAIN[:2], seed=3)


def form(name):
    def make(encoder, folder):
        head = LinearHead(np.eye(encoder.dimension, 3), np.zeros(3))
        return shrink(Teacher(EncoderPredictor(LABELS, encoder, head), encoder, TRAIN), name, TEXTS, seed=1)

    return make


TRAINERS = {
    **{name: fits(make) for name, make in MAKERS.items()},
    "mixup": fits(partial(finetuned, robust=Robust(mixup=0.4))),
    "rdrop": fits(partial(finetuned, robust=Robust(rdrop=1.0))),
    "soup": fits(lambda encoder: SoupLearner(finetuned(encoder), seeds=2)),
    "average": fits(ensemble),
    "distilled": fits(lambda encoder: DistilledLearner(ensemble(encoder))),
    **{f"form: {name}": form(name) for name in RECIPES},
    "static": lambda encoder, folder: fit_static(np.eye(9, 4), [[1, 2], [3]], np.eye(2), texts=2, seed=1),
    "loading": lambda encoder, folder: TransformerEncoder(folder, max_tokens=MAX_TOKENS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_who_trains_leaves_the_callers_generators_alone(name, encoder, tiny_folder):
    before = states()
    TRAINERS[name](encoder, tiny_folder)
    assert states() == before


def test_a_policy_leaves_the_callers_generators_alone(tiny_causal):
    before = states()
    policy = Policy(tiny_causal, kl=0.1, seed=0)
    policy.update([policy.rollout("-", " one text\n")], np.ones(1))
    assert states() == before


def test_a_reference_leaves_the_callers_generators_alone(tiny_causal):
    before = states()
    FolderGenerator(tiny_causal, max_tokens=4).generate([Prompt("-", "late")], n=2, seed=0)
    assert states() == before


def test_no_module_seeds_a_generator_that_is_not_its_own():
    package = Path(refsynth.__file__).parent
    calls = re.compile(r"manual_seed\(|\brandom\.seed\(|set_rng_state\(|set_seed\(|np\.random\.(seed|rand|choice|permutation)")
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if calls.search(path.read_text("utf-8"))}
    assert found == {"models/seeding.py"}


def test_numbers_are_those_of_the_seed_and_the_callers_go_on_behind_them():
    with seeded(5):
        mine = torch.rand(4)
    torch.manual_seed(5)
    torch.testing.assert_close(mine, torch.rand(4), atol=0, rtol=0)
    expected = torch.rand(2)
    torch.manual_seed(5)
    torch.rand(4)
    with pytest.raises(ValueError, match="out"), seeded(1):
        torch.rand(3)
        raise ValueError("out")
    torch.testing.assert_close(torch.rand(2), expected, atol=0, rtol=0)
