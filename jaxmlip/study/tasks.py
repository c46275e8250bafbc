"""What a study has to do: one task a fit, each with a key under which its result is kept."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import ase
import numpy as np
from ase.data import chemical_symbols

from jaxmlip import __version__
from jaxmlip.config import ConfigError
from jaxmlip.data.split import split
from jaxmlip.fitting import fit_settings
from jaxmlip.potentials import Potential, build, suggested
from jaxmlip.potentials.registry import named
from jaxmlip.study.config import StudyConfig, StudyMethod
from jaxmlip.study.presets import preset
from jaxmlip.study.sources import fingerprint

_FORMAT = 5  # raise when the meaning of a kept result changes


class Task(NamedTuple):
    """One fit: a method on the first ``size`` structures of the training set that ``seed`` draws."""

    name: str
    method: StudyMethod
    size: int
    seed: int
    key: str
    """Hash of everything the result depends on."""


class Parts(NamedTuple):
    """The structures of one seed; ``train`` in the order in which sizes take them."""

    train: list[ase.Atoms]
    test: list[ase.Atoms]


def parts(atoms: Sequence[ase.Atoms], config: StudyConfig, seed: int) -> Parts:
    """Training and test structures of a seed: the same for every method and size.

    Raises:
        ConfigError: fewer training structures than the largest size.
    """
    found = split(atoms, test=config.test_fraction, by=config.split, seed=seed)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(found.train)
    largest = max(config.sizes_of(name)[-1] for name in config.methods)
    if largest > len(order):
        raise ConfigError(
            f"sizes: {largest} training structures asked for, but {len(atoms)} structures with test_fraction "
            f"{config.test_fraction} leave {len(order)}; use smaller sizes or more data"
        )
    return Parts([atoms[i] for i in order], [atoms[i] for i in found.test])


def make_tasks(atoms: Sequence[ase.Atoms], config: StudyConfig) -> list[Task]:
    """All fits of a study, small ones first, so that a report is possible early.

    Raises:
        ConfigError: a family, or a setting of one, that does not exist; found before anything is fitted.
    """
    species = elements(atoms)
    data = fingerprint(atoms)
    chosen = {name: _checked(name, method, species) for name, method in config.methods.items()}
    tasks = []
    for size in sorted({size for name in chosen for size in config.sizes_of(name)}):
        named = {name: method for name, method in chosen.items() if size in config.sizes_of(name)}
        for seed in config.seeds:
            for name, method in named.items():
                facts = [_FORMAT, __version__, data, method.family, method.potential, method.fit]
                facts += [size, seed, config.test_fraction, config.split]
                tasks.append(Task(name, method, size, seed, _hash(facts)))
    return tasks


def method_potential(method: StudyMethod, species: Sequence[str], train: Sequence[ase.Atoms] = ()) -> Potential:
    """The potential of a method, completed from the data where the method leaves something open."""
    settings = {"species": tuple(species), "cutoff": 5.0, **method.potential}
    return build(method.family, **(suggested(method.family, settings, train) if train else settings))


def elements(atoms: Sequence[ase.Atoms]) -> tuple[str, ...]:
    """Chemical symbols in the structures, by atomic number."""
    numbers = sorted({int(z) for frame in atoms for z in frame.numbers})
    return tuple(chemical_symbols[z] for z in numbers)


def _checked(name: str, method: StudyMethod, species: Sequence[str]) -> StudyMethod:
    """The method with its preset filled in and its family named, after its settings were understood once."""
    try:
        full = _filled(name, method)
        method_potential(full, species)
        fit_settings(full.family, full.fit)
    except ConfigError as error:
        raise ConfigError(f"methods.{name}: {error}") from None
    return full


def _filled(name: str, method: StudyMethod) -> StudyMethod:
    if method.preset:
        chosen = preset(method.preset)
        if method.family not in ("", chosen.family):
            raise ConfigError(f"preset {method.preset!r} is of {chosen.family}, not of {method.family}")
        settings = ({**chosen.potential, **method.potential}, {**chosen.fit, **method.fit})
        return StudyMethod(chosen.family, *settings)
    family = named(method.family or name.split("-")[0]).name
    return StudyMethod(family, dict(method.potential), dict(method.fit))


def _hash(facts: list[Any]) -> str:
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
