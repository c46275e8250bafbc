"""Fits of a study on other processes, one of which dies."""

import dataclasses
import os
import signal
import time

import distributed
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.study import StudyConfig, StudyMethod, run_study
from jaxmlip.study import executor as executor_module
from jaxmlip.study import run as run_module
from jaxmlip.study.executor import dask_executor

pytestmark = pytest.mark.filterwarnings("default")  # of Dask's own, in threads of its own


def test_a_worker_that_dies_costs_no_result(tmp_path, monkeypatch):
    """The same rows as in this process, times apart."""
    monkeypatch.setattr(run_module, "write_results", lambda *results: None)  # figures: test_study has them
    atoms = sorted(jaxmlip.datasets.load("si", split="test"), key=len)[:10]
    jaxmlip.write(tmp_path / "si.xyz", atoms)
    methods = {
        f"snap-{k}": StudyMethod(potential={"twojmax": 0, "cutoff": 3.0}, fit={"ridge": 10.0**-k}) for k in range(3)
    }
    config = StudyConfig(str(tmp_path / "si.xyz"), methods, (6,), voltages=False, out=tmp_path / "out")
    size = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**size) as cluster, distributed.Client(cluster) as client:
        first = next(iter(client.run(os.getpid).values()))
        executor = client.get_executor(pure=False)
        killer = executor.submit(_die_soon, first)
        found = run_study(config, executor=executor)
        assert killer is not None
        assert first not in client.run(os.getpid).values()
    here = run_study(dataclasses.replace(config, out=tmp_path / "here"))
    keys = [key for key in here.rows[0] if key.endswith(("rmse", "mae", "size", "method", "key"))]
    assert [[row[k] for k in keys] for row in found.rows] == [[row[k] for k in keys] for row in here.rows]


def _die_soon(victim):
    """From one worker to the other: killed while fits are under way."""
    time.sleep(1.0)
    os.kill(victim, signal.SIGKILL)


def test_no_cluster_is_said(monkeypatch):
    monkeypatch.setattr(executor_module, "PATIENCE", 0.5)
    with pytest.raises(ConfigError, match="no Dask scheduler at tcp"), dask_executor("tcp://127.0.0.1:1"):
        pass
