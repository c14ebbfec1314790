"""Where models are trained."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.models.device import device_named


@pytest.mark.slow
def test_no_tensor_of_training_stays_on_another_device_than_the_weights():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("fake_gpu.py")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_device_is_named(monkeypatch):
    assert device_named("auto") == device_named("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        device_named("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_named("auto") == device_named("cuda") == torch.device("cuda:0")
    assert device_named("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_named("auto") == torch.device("cuda:1")


def test_a_device_that_is_unknown_is_refused():
    with pytest.raises(ConfigError, match="device"):
        RunConfig.parse({"labels": ["a", "b"], "device": "gpu"})
