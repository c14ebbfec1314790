"""The tests. Folders mirror src/refsynth, helpers are in support/, fixtures in conftest.py; no test module imports another."""

import pytest

pytest.register_assert_rewrite("tests.support")  # so that their assertions show values, as those of tests do
