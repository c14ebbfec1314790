"""A job for tests of single stages: of rows and a folder, with the learners that a test names."""

from collections.abc import Mapping
from types import SimpleNamespace

from refsynth.core.observe import Silent
from refsynth.learning.job import Job
from refsynth.learning.pool import Pool


def job_of(task, rows, folder, *, learners: Mapping = {}, watch=None, context=None, pool=()) -> Job:
    """Return a job; without a context its encoder is known by the name `encoder` alone."""
    given = context or SimpleNamespace(encoder_hash="encoder", encoder=None)
    return Job(task, rows, Pool(tuple(pool)), given, learners, folder, watch or Silent())
