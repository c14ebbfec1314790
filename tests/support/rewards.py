"""A task with reinforcement, and a judge for it."""

import numpy as np

from refsynth.synthesis.reinforcement.figures import Measured

REINFORCE = {"gate": {"folds": 4}, "synthesis": {"drafts": 48, "per_prompt": 4}}


def by_length(judge, written):
    """A judge to whom even the gibberish of a random model differs; each half likes something else."""
    sign = 1.0 if judge.rows[0].id == "row-1" else -1.0
    return Measured(sign * np.array([float(len(one.completion.text)) for one in written]), np.zeros(len(written), bool), 1.0)
