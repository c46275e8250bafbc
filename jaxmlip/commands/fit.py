"""``jaxmlip fit``: train a potential and leave a folder with the model, its errors and parity plots."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase
import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model, report_errors
from jaxmlip.commands.output import console, record_beside, structures
from jaxmlip.commands.parse import flags_class, parse, take_config, take_word
from jaxmlip.config import ConfigError, unknown_name
from jaxmlip.data.options import ReadOptions

_DEFAULT_FAMILY = "snap"
_N_SHOWN = 2000
"""Structures of a packed set whose errors are told at the end."""


@dataclasses.dataclass(frozen=True)
class FitJob(ReadOptions):
    """What every family's fit needs beside its own settings."""

    train: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, patterns or shipped data sets (ldr, mo:train)."""
    test: tuple[str, ...] = ()
    """Test data, as train; without it a part of train is kept for testing."""
    test_fraction: float = 0.1
    """Part of train kept for testing where no test data is named; 0: train on everything."""
    split: str = "random"
    """How: random, composition, trajectory, or a key of info; all but random keep near twins together."""
    seed: int = 0
    """Of the split; iterative fits have a seed of their own, --fit.seed."""
    start: Path | None = None
    """Model file to go on from (fine-tuning, transfer learning): family, settings and parameters are the model's, its
    energies per element are fitted anew."""
    group_key: str | None = None
    """Key of info whose values get errors of their own."""
    out: Path = Path("fit")
    """Folder for model.npz, errors.csv, figures and run.json; iterative fits keep their log and checkpoint here too and
    go on from it."""
    tensorboard: Path | None = None
    """Folder for TensorBoard's curves of iterative fits; needs `pip install tensorboardX`."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    from jaxmlip.fitting import method_of
    from jaxmlip.potentials import trainable

    mapping, where, rest = take_config(words)
    mapping, rest = _preset(mapping, rest)
    with double_precision():
        start = _start(mapping, rest)
        family, rest = _family(mapping, rest, trainable())
        method, rest = _method(mapping, rest, method_of(family))
        job = _parse((family, method), mapping, where, rest)
        if start is not None:
            _check_potential(family, job, start)
        data = _data(job, method)
        _fit(job, data, start or _potential(family, job, data), ["fit", *words])
    return 0


def _preset(mapping: dict[str, Any], words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The file's settings on top of those of ``--preset NAME``, or of the file's ``preset``."""
    from jaxmlip.study.presets import preset

    mapping = dict(mapping)
    name, rest = take_word(words, "--preset", mapping.pop("preset", None))
    if name is None:
        return mapping, rest
    chosen = preset(name)
    found = {"family": chosen.family, **mapping}
    for part, settings in (("potential", chosen.potential), ("fit", chosen.fit)):
        found[part] = {**settings, **mapping.get(part, {})}
    return found, rest


def _start(mapping: dict[str, Any], words: list[str]) -> Any:
    """The model to go on from, if there is one; its family is that of the fit."""
    from jaxmlip.potentials import family_of, trainable

    path, _ = take_word(words, "--start", mapping.get("start"))
    if path is None:
        return None
    model = load_model(path)
    family = family_of(model.potential.config).name
    if family not in trainable():
        raise ConfigError(
            f"{path} is of the family {family}, which is not fitted here: fit what it was made of, and make it again"
        )
    mapping.setdefault("family", family)
    return model


def _check_potential(family: str, job: Any, start: Any) -> None:
    """Refuses a family or settings that are not those of the model to go on from."""
    from jaxmlip.config import from_mapping, to_mapping
    from jaxmlip.potentials import family_of

    config = start.potential.config
    if family != family_of(config).name:
        raise ConfigError(f"{job.start} is a {family_of(config).name} potential, not {family}: leave the family out")
    defaults = to_mapping(type(job.potential)())
    asked = {name: value for name, value in to_mapping(job.potential).items() if value != defaults[name]}
    different = [
        name for name in asked if from_mapping(type(config), {**to_mapping(config), name: asked[name]}) != config
    ]
    if different:
        raise ConfigError(
            f"{job.start} was made with other settings: {', '.join(different)}. A model keeps its own: leave them out, "
            "or train a new one without --start"
        )


def _family(mapping: dict[str, Any], words: list[str], known) -> tuple[str, list[str]]:
    """The family: the first word, else ``family`` of the file; the file's entry is taken out."""
    named = mapping.pop("family", None)
    if words and not words[0].startswith("-") and (named is None or words[0] in known):
        named, words = words[0], words[1:]
    if named is None:
        if not {"-h", "--help"} & set(words):
            raise ConfigError(f"no family: say `jaxmlip fit {_DEFAULT_FAMILY} DATA`; known: {', '.join(known)}")
        named = _DEFAULT_FAMILY
    if named not in known:
        raise ConfigError(f"{unknown_name('family', named, known)}. Use: jaxmlip fit FAMILY DATA")
    return named, words


def _method(mapping: dict[str, Any], words: list[str], default: str) -> tuple[str, list[str]]:
    """How to fit: ``--fit.method``, else ``method`` of the file's ``[fit]``; both are taken out."""
    from jaxmlip.fitting import named_method

    settings = dict(mapping.get("fit", {}))
    method: Any = settings.pop("method", default)
    if "fit" in mapping:
        mapping["fit"] = settings
    method, rest = take_word(words, "--fit.method", method)
    named_method(method)
    return method, rest


def _parse(kind: tuple[str, str], mapping: dict[str, Any], where: str, words: list[str]) -> Any:
    """The job with the ``potential`` settings of a family and the ``fit`` settings of a method."""
    from jaxmlip.fitting import FIT_METHODS
    from jaxmlip.potentials import FAMILIES, trainable
    from jaxmlip.study.presets import presets

    family, method = kind
    settings = FIT_METHODS[method].settings

    potential = flags_class(FAMILIES[family].config, name=family.upper(), defaults={"species": (), "cutoff": 5.0})
    fields = [("potential", potential, dataclasses.field(default=potential()))]
    fields.append(("fit", settings, dataclasses.field(default=settings())))
    cls = dataclasses.make_dataclass("Fit", fields, bases=(FitJob,), frozen=True)
    cls.__doc__ = (
        f"Train a {family} potential: jaxmlip fit {family} DATA [flags]. Flags of other families: jaxmlip fit FAMILY "
        f"--help, with FAMILY one of {', '.join(trainable())}. No species: the elements of the data. The fit is "
        f"{method}; --fit.method takes {', '.join(FIT_METHODS)}, each with flags of its own; "
        f"--preset takes {', '.join(presets())}.\n\n"
        f"example: jaxmlip fit {family} train.xyz --test test.xyz --potential.cutoff 5 --out {family}\n\n"
        "The same as a file (jaxmlip fit --config fit.toml):\n\n"
        f'    family = "{family}"\n    train = ["train.xyz"]\n    [potential]\n    cutoff = 5.0\n    [fit]\n'
        f'    method = "{method}"'
    )
    return parse(cls, words, prog=f"jaxmlip fit {family}", mapping=mapping, where=where)


class Sets(NamedTuple):
    """What a potential is fitted to and tested on; the test set may be empty."""

    train: Sequence[ase.Atoms]
    test: Sequence[ase.Atoms]


def _data(job: FitJob, method: str) -> Sets:
    from jaxmlip.data import PackedData
    from jaxmlip.data.split import split

    train = _packed(job, method) or structures(job.train, "training data", job)
    if job.test:
        return Sets(train, structures(job.test, "test data", job))
    if not 0 <= job.test_fraction < 1:
        raise ConfigError(f"test_fraction must lie in 0 … 1 (1 excluded), got {job.test_fraction}")
    if job.test_fraction == 0:
        return Sets(train, [])
    parts = split(train, test=job.test_fraction, by=job.split, seed=job.seed)
    if isinstance(train, PackedData):
        return Sets(train.select(parts.train), train.select(parts.test))
    return Sets([train[i] for i in parts.train], [train[i] for i in parts.test])


def _packed(job: FitJob, method: str) -> Any:
    """The packed data set that ``train`` names, if there is one and the method leaves it on disk."""
    from jaxmlip.data import PackedData
    from jaxmlip.data.packed import is_packed
    from jaxmlip.fitting import FIT_METHODS

    sources = list(job.train)
    if FIT_METHODS[method].streamed is None or not any(map(is_packed, sources)):
        return None
    if len(sources) > 1:
        raise ConfigError(f"a fit streams one packed data set: jaxmlip data pack {' '.join(sources)} FOLDER")
    if job.read_options:
        raise ConfigError(f"{', '.join(job.read_options)}: say this to `jaxmlip data pack`, which reads the files")
    return PackedData(sources[0])


def _samples(frames: Sequence[ase.Atoms]) -> Sequence[ase.Atoms]:
    """Structures with all elements of a set; of packed data no structure is read for it."""
    from jaxmlip.data import PackedData

    return [ase.Atoms(numbers=frames.species)] if isinstance(frames, PackedData) else frames


def _shown(name: str, frames: Sequence[ase.Atoms], seed: int) -> Sequence[ase.Atoms]:
    """What of a set the errors are told of: of packed data a sample, which is in memory."""
    import numpy as np

    from jaxmlip.data import PackedData

    if not isinstance(frames, PackedData):
        return frames
    chosen = np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(len(frames))[:_N_SHOWN])
    if len(chosen) < len(frames):
        console().print(f"errors of {name}: of {len(chosen)} out of {len(frames)} structures", highlight=False)
    return list(frames.select(chosen))


def _potential(family: str, job: Any, data: Sets) -> Any:
    """The potential of the settings, completed from the data."""
    import jaxmlip
    from jaxmlip.config import to_mapping
    from jaxmlip.potentials import suggested
    from jaxmlip.study.tasks import elements

    train, test = data
    settings = to_mapping(job.potential)
    settings["species"] = settings["species"] or elements([*_samples(train), *_samples(test)])
    return jaxmlip.build(family, **suggested(family, settings, train))


def _fit(job: Any, data: Sets, start: Any, words: list[str]) -> None:
    import jaxmlip
    from jaxmlip.commands.progress import training_progress
    from jaxmlip.config import to_mapping
    from jaxmlip.evaluate import save_figure, training_figure
    from jaxmlip.fitting.training.devices import is_first_process
    from jaxmlip.potentials import family_of

    train, test = data
    job.out.mkdir(parents=True, exist_ok=True)
    with training_progress(job.tensorboard) as shown:
        model, history = jaxmlip.fit(start, train, settings=job.fit, folder=job.out, show_progress=shown)
    if not is_first_process():
        return
    jaxmlip.save(model, job.out / "model.npz")
    if history.rows and "epoch" in history.rows[0]:
        save_figure(training_figure(history.rows), job.out / "training.png")
    sets = {name: _shown(name, part, job.seed) for name, part in data._asdict().items() if len(part)}
    report_errors(model, sets, out=job.out, group_key=job.group_key)
    config = model.potential.config
    facts = {"family": family_of(config).name, "seed": job.seed, "n_train": len(train), "n_test": len(test)}
    record_beside(job.out, job, words, **facts, potential=to_mapping(config), fit_summary=history.summary)
    console().print(f"wrote {job.out / 'model.npz'}; errors, figures and run.json are beside it", highlight=False)
