"""Do rounds of drafts pay against SetFit and real rows alone, and what ships if the generator lies about its labels?

The lie is planted in what the reference answered: of half of its texts, each is given to a prompt of another label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.fewshot import SETS
from benchmarks.ours import arms, run_ours
from benchmarks.pool import JOURNALS, draft_pool
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite
from refsynth.core.files import read_jsonl, write_jsonl
from refsynth.core.hashes import derive_seed
from refsynth.evaluation.testfile import SHIPPED

BUDGET = 280
TIMED = False
ROUNDS = 3
SWAPPED = 0.5


def _loop(sample: Sample, name: str, seed: int) -> list[Cell]:
    draft_pool(sample, name, seed)  # which other benches judge, and the first round takes over
    ours = run_ours(sample, f"{name}-loop", seed, pool=name, synthesis={"rounds": ROUNDS})
    used = {"rounds": sum(one.used for one in ours.evidence.learned.rounds)}
    return [one | used for one in arms(ours, {"real only": str(ours.evidence.learned.decision.real), "loop": SHIPPED})]


def _poisoned(sample: Sample, name: str, seed: int) -> list[Cell]:
    draft_pool(sample, name, seed)  # there is now a journal of honest answers
    poison(JOURNALS / f"{name}-{seed}.jsonl", JOURNALS / f"{name}-poisoned-{seed}.jsonl", seed=seed)
    ours = run_ours(sample, f"{name}-poisoned", seed)
    decision = ours.evidence.learned.decision
    return arms(ours, {"poisoned, ungated": str(decision.mixed or decision.real), "poisoned": SHIPPED})


def poison(journal: Path, out: Path, *, seed: int) -> None:
    """Write a journal in which `SWAPPED` of the texts answer the next prompt of their batch, which asks for another label."""
    rng = np.random.default_rng(derive_seed(seed, "poison"))
    write_jsonl(out, [{**record, "answers": _dealt(record["answers"], rng)} for record in read_jsonl(journal)])


def _dealt(answers: dict[str, list[Any]], rng: np.random.Generator) -> dict[str, list[Any]]:
    """Move texts one prompt on, at as many places of each prompt as are swapped."""
    prompts = sorted(answers, key=int)
    dealt = {prompt: list(answers[prompt]) for prompt in prompts}
    shortest = min(len(row) for row in answers.values())
    for place in rng.permutation(shortest)[: round(SWAPPED * shortest)]:
        for giver, taker in zip(prompts, [*prompts[1:], prompts[0]], strict=True):
            dealt[taker][place] = answers[giver][place]
    return dealt


SUITE = Suite(
    SETS,
    groups=(Group(_loop, ("real only", "loop")), Group(_poisoned, ("poisoned, ungated", "poisoned"))),
    borrowed={"setfit": "fewshot"},
    order=("setfit", "real only", "loop", "poisoned, ungated", "poisoned"),
    held=(
        Over("loop over setfit", "loop", "setfit", floor=2.0, aim=6.0),
        Over("worst of loop over real only", "loop", "real only", floor=-1.0, aim=0.0, worst=True),
        Over("worst of poisoned over real only", "poisoned", "real only", floor=-1.0, aim=0.0, worst=True),
    ),
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
