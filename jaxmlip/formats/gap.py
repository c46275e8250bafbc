"""QUIP's ``gap.xml`` with its files of sparse points, read; `jaxmlip.formats.gap_write` writes it.

Settings that change nothing in a prediction (how points were
chosen, the command line) are not kept. What jaxmlip cannot represent is refused, never skipped.

References:
    The files that ``gap_fit`` of quippy-ase 0.10.3 writes.
"""

import hashlib
import lzma
from collections.abc import Sequence
from functools import reduce
from itertools import zip_longest
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from jaxmlip.formats.gap_descriptor import (
    ALL_REFERENCE,
    COVARIANCES,
    PLAIN_SPECTRUM,
    Term,
    config_of,
    descriptor_words,
    elements_of,
    for_element,
    names_elements,
    pair_cutoff,
    pair_of,
    settings_key,
)
from jaxmlip.potentials.base import Config
from jaxmlip.potentials.gap import GAPConfig, gap
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.sums import add_models


def read_gap(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from ``gap.xml``; its ``gap.xml.sparseX.*`` files must be beside it (plain, or ``.xz``).

    Several SOAPs, or several pair terms, become a sum of GAPs. In files of before ``zeta`` was an attribute it stands
    in ``<theta>``.

    Args:
        path: the ``.xml`` file.
        species: must be the file's elements in its order: the points are vectors in terms of them. Needed for a model
            of one element that the file does not name (gap_fit with add_species=F).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file, a wrong checksum, or something that jaxmlip cannot represent.
    """
    path = Path(path)
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not a complete XML file: {error}") from None
    params, data = root.find("GAP_params"), root.find("GAP_params/GAP_data")
    if params is None or data is None:
        raise ValueError(f"{path} is not a GAP: it has no <GAP_params> with <GAP_data>")
    _refuse_extras(path, root, data)
    terms = [_term(path, element) for element in params.iter("gpCoordinates")]
    if not terms:
        raise ValueError(f"{path} has no <gpCoordinates>: there is nothing to predict with")
    e0 = {int(e.get("Z", 0)): float(e.get("value", 0)) for e in data.iter("e0")}
    terms = _with_elements(path, terms, species, elements_of(params, e0))
    age, parts = _age(path, params), _parts(terms)
    config = config_of(path, parts[0], age)
    if species is not None and Config(tuple(species), 1.0).species != config.species:
        raise ValueError(
            f"{path} is a model of {', '.join(config.symbols)}, in this order; its sparse points are vectors in terms "
            "of them: leave `species` out"
        )
    offsets = np.array([e0.get(int(z), 0.0) for z in config.species])
    models = []
    for part in parts:
        own = config_of(path, part, age, tuple(int(z) for z in config.species))
        alpha, points = _arrays(own, part)
        models.append(Model(gap(own), {"offsets": np.zeros_like(offsets), "alpha": alpha, "points": points}))
    models[0].params["offsets"] = offsets
    return reduce(add_models, models)


def _parts(terms: list[Term]) -> list[list[Term]]:
    """The terms of each GAP of the sum: one kind of SOAP and one of distance_2b where there are any left."""
    kinds: dict[str, dict[tuple, list[Term]]] = {"soap": {}, "distance_2b": {}}
    for term in terms:
        kinds[term.words[""]].setdefault(settings_key(term), []).append(term)
    groups = zip_longest(*(found.values() for found in kinds.values()), fillvalue=[])
    return [[*soaps, *pairs] for soaps, pairs in groups]


def _with_elements(path: Path, terms: list[Term], species: Sequence[int | str] | None, known: set[int]) -> list[Term]:
    """The terms with the element of a model of one element named, where its descriptors leave it open."""
    if all(names_elements(term.words) for term in terms):
        return terms
    given = set(Config(tuple(species), 1.0).species) if species is not None else known
    if len(given) != 1:
        what = f"{len(given)} elements have an energy e0" if species is None else f"species names {len(given)} elements"
        raise ValueError(
            f"{path} has descriptors without Z, for any element (gap_fit with add_species=F), and {what}; such a model "
            "is supported for one element: name it, e.g. species=['Mo']"
        )
    (number,) = given
    return [term._replace(words=for_element(term.words, int(number))) for term in terms]


def _refuse_extras(path: Path, root: Any, data: Any) -> None:
    potential = root.find("Potential")
    init_args = "" if potential is None else potential.get("init_args", "")
    words = [word for word in init_args.split() if word not in ("IP", "GAP") and not word.startswith("label=")]
    if words:
        raise ValueError(f"{path}: init_args {' '.join(words)!r} are not supported; only a GAP alone is")
    if data.get("do_core", "F").upper().startswith("T"):
        raise ValueError(f"{path} has do_core=T, a second potential added to the GAP, which is not supported")


def _age(path: Path, params: Any) -> dict[str, Any]:
    """What old versions did differently."""
    version = int(params.get("gap_version", 0))
    if version < PLAIN_SPECTRUM:
        raise ValueError(f"{path} has gap_version {version}: before {PLAIN_SPECTRUM} SOAP had another normalisation")
    return {"central_reference_all_species": True} if version < ALL_REFERENCE else {}


def _term(path: Path, element: Any) -> Term:
    words = descriptor_words(path, element.findtext("descriptor", ""))
    name = words[""]
    if element.get("covariance_type") != COVARIANCES[name]:
        raise ValueError(f"{path}: {name} with covariance_type {element.get('covariance_type')} is not supported")
    theta = [float(x) for x in element.findtext("theta", "").split()]
    alpha = np.array([float(e.get("alpha")) for e in element.iter("sparseX")])
    cutoffs = np.array([float(e.get("sparseCutoff")) for e in element.iter("sparseX")])
    points = _points(path, element).reshape(len(alpha), -1)
    if points.shape[1] != int(element.get("dimensions", 0)):
        raise ValueError(f"{path}: {points.size} numbers are no {len(alpha)} points of {element.get('dimensions')}")
    zeta, delta = _zeta(path, element, words, theta), float(element.get("signal_variance"))
    return Term(words, zeta, delta, theta[0] if theta else 0.0, points, alpha, cutoffs)


def _zeta(path: Path, element: Any, words: dict[str, str], theta: list[float]) -> float:
    """The exponent of a SOAP kernel: the attribute, or in old files the single number of ``<theta>``."""
    if words[""] != "soap":
        return 1.0
    if element.get("zeta") is not None:
        return float(element.get("zeta"))
    if len(theta) != 1:
        raise ValueError(f"{path}: a soap without the attribute zeta and with {len(theta)} numbers in <theta>, not one")
    if "zeta" in words and float(words["zeta"]) != theta[0]:
        raise ValueError(f"{path}: zeta is {words['zeta']} in the descriptor but {theta[0]} in <theta>")
    return theta[0]


def _points(path: Path, element: Any) -> np.ndarray:
    """Numbers of the sparse points, from the file beside or from the element itself."""
    name = element.get("sparseX_filename")
    if name is None:
        texts = []
        for point in element.iter("sparseX"):
            slices = point.findall("sparseX_slice")
            texts += [part.text or "" for part in slices] if slices else [point.text or ""]
        return np.array(" ".join(texts).split(), float)
    file = path.parent / name
    if not file.parent.is_dir():  # written on another machine with a whole path
        file = path.with_name(file.name)
    packed = file.with_name(file.name + ".xz")
    if not file.exists() and not packed.exists():
        raise FileNotFoundError(f"{file} is missing: {path.name} keeps its sparse points there")
    content = file.read_bytes() if file.exists() else lzma.decompress(packed.read_bytes())
    expected = element.get("sparseX_md5sum", "").strip()
    if expected and hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise ValueError(f"{file} is not the file that {path.name} was written with: its checksum differs")
    return np.array(content.split(), float)


def _arrays(config: GAPConfig, terms: list[Term]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """α and points as arrays padded with zeros, one row an element or pair of elements."""
    rows: dict[str, list[list[Term]]] = {"soap": [[] for _ in config.species]}
    if config.distance_2b_cutoff is not None:
        rows["distance_2b"] = [[] for _ in config.pairs]
    for term in terms:
        name = term.words[""]
        expected = 1.0 if name == "soap" else pair_cutoff(term.points[:, 0], config)
        if not np.allclose(term.cutoffs, expected, rtol=0, atol=1e-9):
            raise ValueError(f"a {name} has sparseCutoff values that are not the cutoff function of its points")
        if name == "soap":
            rows[name][config.species.index(int(term.words["Z"]))].append(term)
        else:
            rows[name][config.pairs.index(pair_of(config, term.words))].append(term)
    alpha, points = {}, {}
    for name, found in rows.items():
        delta = config.delta if name == "soap" else config.distance_2b_delta
        width = max((sum(len(t.alpha) for t in row) for row in found), default=0)
        alpha[name] = np.zeros((len(found), width))
        points[name] = np.zeros((len(found), width, config.soap.n_features if name == "soap" else 1))
        for k, row in enumerate(t for t in found):
            start = 0
            for term in row:
                stop = start + len(term.alpha)
                alpha[name][k, start:stop] = term.alpha * (term.delta / delta) ** 2
                points[name][k, start:stop] = term.points
                start = stop
    if "distance_2b" in points:
        points["distance_2b"] = points["distance_2b"][:, :, 0]
    return alpha, points
