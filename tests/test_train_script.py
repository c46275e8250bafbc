"""scripts/train.py as a scheduler runs it: stopped by SIGTERM, started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxmlip.commands import progress
from jaxmlip.config import ConfigError
from jaxmlip.fitting import Terminated, read_log
from jaxmlip.fitting.training.signals import termination

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
SETTINGS = """
family = "snap"
train = ["mo:test"]
test_fraction = 0.8
out = "{out}"
[potential]
cutoff = 3.0
twojmax = 1
[fit]
method = "gradient"
epochs = {epochs}
checkpoint_every = 100000
n_shapes = 1
validation_fraction = 0.0
"""


def start(folder, epochs, *words):
    config = folder / "train.toml"
    config.write_text(SETTINGS.format(out=folder / "out", epochs=epochs), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(config), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def test_sigterm_leaves_a_checkpoint_that_is_gone_on_from(tmp_path):
    running = start(tmp_path, 100000, "--tensorboard", str(tmp_path / "board"))
    log = tmp_path / "out" / "log.jsonl"
    ends = time.monotonic() + 300
    while time.monotonic() < ends and (not log.exists() or len(read_log(log)) < 3):
        time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    _, messages = running.communicate(timeout=60)
    assert running.returncode == Terminated.exit_code == 143, messages
    assert (tmp_path / "out" / "checkpoint.msgpack").exists()
    assert not (tmp_path / "out" / "model.npz").exists()
    assert list((tmp_path / "board").iterdir())
    done = len(read_log(log))
    again = start(tmp_path, 100000)  # the same command goes on
    while time.monotonic() < ends and len(read_log(log)) < done + 3:
        time.sleep(0.2)
    again.send_signal(signal.SIGTERM)
    _, messages = again.communicate(timeout=60)
    assert again.returncode == Terminated.exit_code == 143, messages
    epochs = [row["epoch"] for row in read_log(log)]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= done + 3


def test_without_a_folder_the_signal_keeps_its_meaning():
    """A fit that keeps nothing must be killable."""
    before = signal.getsignal(signal.SIGTERM)
    with termination(handled=False) as asked:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not asked()
    with termination(handled=True) as asked:
        assert signal.getsignal(signal.SIGTERM) is not before
        signal.raise_signal(signal.SIGTERM)
        assert asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_help():
    found = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "srun python scripts/train.py" in found.stdout


def test_lines_where_there_is_no_terminal(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with progress.training_progress(None) as shown:
        shown({"epoch": 7, "train_loss": np.float64(1), "train_energy": 0.012})
        shown({"stage": "design matrix", "step": 2, "n_steps": 3})
    assert capsys.readouterr().err == "epoch 7, train 12.0 meV/atom\ndesign matrix, 2 of 3\n"
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match="pip install tensorboardX"), progress.training_progress(tmp_path):
        pass
