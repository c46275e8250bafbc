"""One device, four, and two processes of two devices each come to the same potentials.

Tolerance 1e-8 of parameters of order one: additions in another order change 1e-16, a few steps of training enlarge it.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fits_on_devices import FAMILIES, fits

PROGRAM = Path(__file__).with_name("fits_on_devices.py")


@pytest.fixture(scope="module")
def expected():
    return fits(FAMILIES)


def start(folder, n_devices, methods, *words):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n_devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(PROGRAM), str(folder), ",".join(methods), *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, messages = process.communicate(timeout=400)
        assert process.returncode == 0, messages


def compare(path, expected, methods):
    with np.load(path) as found:
        assert found["n_devices"] == 4
        for method in methods:
            np.testing.assert_allclose(found[method], expected[method], rtol=1e-8, atol=1e-8, err_msg=method)


def test_four_devices(tmp_path, expected):
    finish(start(tmp_path, 4, FAMILIES))
    compare(tmp_path / "result0.npz", expected, FAMILIES)


def test_two_processes(tmp_path, expected):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    finish(*(start(tmp_path, 2, ["gradient", "packed"], address, "2", str(k)) for k in range(2)))
    for k in range(2):
        compare(tmp_path / f"result{k}.npz", expected, ["gradient", "packed"])
    logged = (tmp_path / "gradient" / "log.jsonl").read_text().splitlines()
    assert len(logged) == 3  # one of them writes
