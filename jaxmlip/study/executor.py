"""Where the fits of a study run: here, or on a Dask cluster (``pip install jaxmlip[dask]``).

`jaxmlip.study.run_study` takes any `concurrent.futures.Executor`; finished fits are kept in a folder that all workers
must see, so a worker that dies costs the fit it was at, which Dask gives to another one.

On a SLURM machine, with dask-jobqueue:

    from dask_jobqueue import SLURMCluster
    from distributed import Client
    cluster = SLURMCluster(cores=8, memory="32GB", walltime="04:00:00")
    cluster.scale(jobs=10)
    run_study(config, executor=Client(cluster).get_executor(pure=False))

or ``jaxmlip study study.toml --dask tcp://HOST:8786`` with the address of any scheduler.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxmlip.config import ConfigError

PATIENCE = 10.0
"""Seconds in which a scheduler must answer."""


@contextmanager
def dask_executor(address: str, *, cache: Path | None = None) -> Iterator[Executor]:
    """The executor of a Dask cluster: at an address, or ``"local"``, one worker a core of this machine.

    ``cache`` is where workers of a local cluster keep compiled programs.

    Raises:
        ConfigError: Dask is not installed, or nothing answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ConfigError("--dask needs a package more: pip install 'jaxmlip[dask]'") from None
    if address != "local":
        try:
            client = Client(address, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise ConfigError(f"no Dask scheduler at {address}: {error}") from None
        with client:
            yield client.get_executor(pure=False)
        return
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    size: dict[str, Any] = {"n_workers": os.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**size, env=environment) as cluster, Client(cluster) as client:
        yield client.get_executor(pure=False)
