"""One round of a learning, stage by stage; each stage is read from the round's folder where it was done before."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.data.labels import labels
from jaxmlip.evaluate.errors import errors
from jaxmlip.evaluate.provenance import write_json
from jaxmlip.fitting import FIT_METHODS
from jaxmlip.fitting import fit as fit_model
from jaxmlip.formats import load, save
from jaxmlip.graph.batch import batch
from jaxmlip.learning.active.choice import choose
from jaxmlip.learning.active.explorers import Exploring, explorer
from jaxmlip.learning.active.keeping import Times, kept_frames
from jaxmlip.learning.active.labellers import Told, label_all
from jaxmlip.learning.active.settings import Explorer, Learning
from jaxmlip.learning.active.uncertainty import Fitted, Uncertainty, keep_posterior, uncertainty, with_posterior
from jaxmlip.learning.distillation import Place
from jaxmlip.learning.exploration import Watch
from jaxmlip.learning.structures import bare, is_sound
from jaxmlip.potentials.base import Potential, initial
from jaxmlip.potentials.model import Model

_MOST = 1000  # structures without labels that a round looks at
_ALONE = ("linear", "gaussian-process")  # methods that end at the same parameters wherever they start


class Round(NamedTuple):
    """Where a round is kept, and what draws its random numbers."""

    number: int
    settings: Learning
    place: Place

    @property
    def folder(self) -> Path:
        """Of all its files."""
        return self.place.folder / f"round-{self.number:03d}"

    @property
    def times(self) -> Times:
        """What its stages took."""
        return Times(self.folder / "times.json")

    def rng(self, *words: int) -> np.random.Generator:
        """Random numbers of this round and of ``words`` alone."""
        return np.random.default_rng([self.settings.seed, self.number, *words])


class Explored(NamedTuple):
    """What a round came to, and how doubtful each structure was."""

    atoms: list[ase.Atoms]
    doubts: Float[np.ndarray, " n_structures"]
    soft: float

    @property
    def outside(self) -> float:
        """The part of the structures beyond the soft limit."""
        return float(np.mean(self.doubts > self.soft)) if self.atoms else 0.0


def fitted(here: Round, start: Potential | Model, train: Sequence[ase.Atoms], fit: Any) -> tuple[Model, Uncertainty]:
    """The model of a round and its uncertainty."""
    path, posterior = here.folder / "model.npz", here.folder / "posterior.npz"
    with here.times.measured("fit", path):
        if not path.exists():
            begin = _begin(here, start, fit)
            model, _ = fit_model(begin, train, settings=fit, folder=here.folder / "fit")
            keep_posterior(model, posterior)
            save(model, path)
    loaded = load(path)
    potential = start if isinstance(start, Potential) else start.potential
    model = with_posterior(Model(potential, loaded.params), posterior)
    done = here.folder / "explored.json"
    with here.times.measured("fit", done):
        facts = Fitted(model, train, start, fit, here.settings.seed)
        return model, uncertainty(facts, here.settings.doubt, folder=here.folder)


def _begin(here: Round, start: Potential | Model, fit: Any) -> Potential | Model:
    """Where a fit starts: for one of several steps that goes on, the last round's model."""
    before = here._replace(number=here.number - 1).folder / "model.npz"
    alone = isinstance(fit, tuple(FIT_METHODS[name].settings for name in _ALONE))
    return load(before) if here.settings.go_on and before.exists() and not alone else start


def explored(
    here: Round, model: Model, doubt: Uncertainty, pool: Sequence[ase.Atoms], given: Sequence[ase.Atoms]
) -> Explored:
    """Structures of all explorers and those ``given``, with how doubtful they are in ``info["doubt"]``."""
    settings = here.settings
    share = settings.starts / (sum(one.weight for one in settings.explore) or 1.0)

    def inside(frames: list[ase.Atoms]) -> list[bool]:
        return [bool(x <= settings.doubt.hard * max(1.0, doubt.apart)) for x in doubt(frames)]

    found: list[ase.Atoms] = []
    for k, one in enumerate(settings.explore):
        path = here.folder / f"explored-{k}.extxyz"
        visit = _Visit(k, one, max(1, round(share * one.weight)), inside)
        with here.times.measured("explore", path):
            found += kept_frames(path, lambda visit=visit: _visited(here, visit, model, pool))
    found += as_they_are(here, given)
    if settings.explore and not found:
        raise ValueError(
            "the explorers gave no structure that is sound, small enough and of elements that the potential knows: "
            f"look at max_atoms = {settings.max_atoms}, and at the structures to start from"
        )
    path = here.folder / "explored.json"
    if not path.exists():
        with here.times.measured("explore"):
            doubts = doubt(found)
        _write_numbers(path, doubts)
    doubts = np.array(json.loads(path.read_text(encoding="utf-8")), float)
    for frame, x in zip(found, doubts, strict=True):
        frame.info["doubt"] = float(x)
    return Explored(found, doubts, settings.doubt.soft)


class _Visit(NamedTuple):
    """What one explorer does in a round."""

    number: int  # of the explorer
    explorer: Explorer
    n_starts: int  # replicas
    inside: Watch  # which structures lie within the training data


def _visited(here: Round, visit: _Visit, model: Model, pool: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """What one explorer found: sound structures, small enough, of elements that the model knows."""
    function, options = explorer(visit.explorer)
    rng = here.rng(visit.number)
    starts = drawn(pool, visit.n_starts, rng)
    known = {int(z) for z in model.potential.config.species}
    found = []
    for frame in function(model, starts, Exploring(options, visit.inside), rng):
        if len(frame) <= here.settings.max_atoms and set(frame.numbers.tolist()) <= known and is_sound(frame):
            one_found = bare(frame)
            one_found.info.update(
                explorer=visit.explorer.kind, replica=int(frame.info.get("replica", 0)), round=here.number
            )
            found.append(one_found)
    return found


def drawn(pool: Sequence[ase.Atoms], n: int, rng: np.random.Generator) -> list[ase.Atoms]:
    """Starts, each formula of a cell as likely as any other: else those labelled often would be explored ever more."""
    formulas = [frame.get_chemical_formula() for frame in pool]
    count = Counter(formulas)
    share = np.array([1.0 / (len(count) * count[formula]) for formula in formulas])
    return [bare(pool[int(i)]) for i in rng.choice(len(pool), n, replace=n > len(pool), p=share)]


def chosen(here: Round, model: Model, seen: Explored, train: Sequence[ase.Atoms], n: int) -> list[ase.Atoms]:
    """The structures of a round that are labelled."""
    settings = here.settings

    def make() -> list[ase.Atoms]:
        if settings.choice == "random":
            order = here.rng(len(settings.explore)).permutation(len(seen.atoms))[:n]
            return [seen.atoms[int(k)] for k in order]
        picked = choose(model, seen.atoms, seen.doubts, n, train=train, settings=settings)
        return [seen.atoms[k] for k in picked]

    path = here.folder / "chosen.extxyz"
    with here.times.measured("explore", path):
        return kept_frames(path, make)


def first(here: Round, start: Potential | Model, given: Sequence[ase.Atoms], n: int) -> list[ase.Atoms]:
    """The structures that are labelled where no label is, by what they tell the potential as it starts; or any."""
    seen = as_they_are(here, given)
    if isinstance(start, Potential):
        start = Model(start, initial(start, here.settings.seed, batch(seen[:16], start.config)))
    return chosen(here, start, Explored(seen, np.full(len(seen), np.inf), here.settings.doubt.soft), [], n)


def as_they_are(here: Round, given: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """Of the structures without labels those that a round looks at: all, or ``_MOST`` drawn from them."""
    order = here.rng(len(here.settings.explore) + 1).permutation(len(given))[:_MOST]
    found = [given[k].copy() for k in sorted(order.tolist())]
    for frame in found:
        frame.info.update(explorer="given", replica=0, round=here.number)
    return found


def told(here: Round, asked: Sequence[ase.Atoms]) -> Told:
    """Their labels."""
    done = here.folder / "labelled.json"
    with here.times.measured("label", done):
        found = label_all(
            asked, here.settings.label, here.folder, executor=here.place.executor, report=here.place.report
        )
    if not done.exists() and found.good:
        write_json(done, {"good": len(found.good), "failed": len(found.failed)})
    return found


def error_columns(name: str, model: Model, frames: Sequence[ase.Atoms]) -> dict[str, float]:
    """Columns such as ``test_energy_rmse``, in eV/atom and eV/Å; none without structures."""
    if not frames:
        return {}
    table = errors(model, frames)
    whole = [row for row in table.rows if row.scope == "all" and row.quantity != "stress"]
    return {
        f"{name}_{row.quantity}_{measure}": getattr(row, measure) for row in whole for measure in ("rmse", "mae", "max")
    }


def fresh_rows(model: Model, frames: Sequence[ase.Atoms]) -> list[dict[str, Any]]:
    """One row a new label: what the model that asked for it got wrong."""
    from jaxmlip.potentials import predict_atoms

    if not frames:
        return []
    predicted = predict_atoms(model, frames)
    rows = []
    for k, frame in enumerate(frames):
        label = labels(frame)
        rows.append(
            {
                "round": int(frame.info["round"]),
                "formula": frame.get_chemical_formula(empirical=True),
                "n_atoms": len(frame),
                "explorer": str(frame.info["explorer"]),
                "doubt": float(frame.info["doubt"]),
                "energy_error": float(predicted.energy[k] - (label.energy or 0.0)) / len(frame),
                "force_error": float(np.sqrt(np.mean((predicted.forces[k] - label.forces) ** 2))),
                "label_seconds": float(frame.info["label_seconds"]),
            }
        )
    return rows


def _write_numbers(path: Path, values: Float[np.ndarray, " n"]) -> None:
    """With an infinity as a very large number, which JSON can say."""
    write_json(path, np.nan_to_num(values, posinf=1e300).tolist())
