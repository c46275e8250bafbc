"""The descriptor strings of QUIP, ``soap l_max=4 n_max=4 …``, as settings of a `GAPConfig`, and back."""

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float

from jaxmlip.config import unknown_name
from jaxmlip.potentials.gap import GAPConfig

PLAIN_SPECTRUM, ALL_REFERENCE, NEWEST = 1423143769, 1426512068, 1769700636
"""``gap_version``: below, the factor 1/√(2l+1) was missing; below, the central atom was in all channels; today."""

_REGRESSION = {  # keys of gap_fit that stand in the string and do not concern the descriptor
    "n_sparse", "delta", "zeta", "f0", "sparse_method", "covariance_type", "add_species", "theta_uniform", "theta_fac",
    "config_type_n_sparse", "print_sparse_index", "unique_hash_tolerance", "unique_descriptor_tolerance", "n_sparseX",
    "mark_sparse_atoms", "sparse_file", "xml_version",
}  # fmt: skip
_SOAP = {
    "cutoff": float, "n_max": int, "l_max": int, "atom_sigma": float, "cutoff_transition_width": float,
    "central_weight": float, "basis_error_exponent": float, "covariance_sigma0": float, "nu_R": int, "nu_S": int,
}  # fmt: skip
_FLAGS = ("normalise", "central_reference_all_species")
_ALIASES = {"atom_gaussian_width": "atom_sigma", "normalize": "normalise"}
_NEUTRAL = {  # supported only with the values that change nothing
    "soap": {"radial_basis": "EQUISPACED_GAUSS", "average": "F", "diagonal_radial": "F", "Z_mix": "F", "R_mix": "F",
             "sym_mix": "F", "coupling": "T", "K": "0", "cutoff_dexp": "0", "cutoff_scale": "1.0", "cutoff_rate": "1.0",
             "species": None, "n_species": None, "species_Z": None, "Z": None, "n_Z": "1"},
    "distance_2b": {"only_intra": "F", "only_inter": "F", "n_exponents": "1", "exponents": "1", "tail_range": "1.0",
                    "tail_exponent": "0", "resid_name": "", "Z1": None, "Z2": None},
}  # fmt: skip
_REQUIRED = {"soap": ("cutoff", "n_max", "l_max", "atom_sigma"), "distance_2b": ("cutoff",)}
_CENTRES = {"soap": ("Z", "species_Z"), "distance_2b": ("Z1", "Z2")}
_PAIR = {"cutoff": "cutoff", "cutoff_transition_width": "transition_width"}
COVARIANCES = {"distance_2b": "1", "soap": "2"}
"""QUIP's numbers of the kernels: ard_se and dot_product."""


class Term(NamedTuple):
    """One ``gpCoordinates`` element."""

    words: dict[str, str]  # the descriptor string; its name under ""
    zeta: float
    delta: float  # eV
    theta: float  # Å
    points: np.ndarray  # [n_sparse, dimensions]
    alpha: np.ndarray  # [n_sparse]
    cutoffs: np.ndarray  # sparseCutoff: f_c of the points


def descriptor_words(path: Path, text: str) -> dict[str, str]:
    """The string as a dict; the descriptor's name is under the empty key.

    Raises:
        ValueError: an unknown descriptor or key, or a value that is not supported.
    """
    words = shlex.split(text.replace("{", '"').replace("}", '"'))
    name = words[0] if words else ""
    if name not in _NEUTRAL:
        raise ValueError(
            f"{path}: the descriptor {name!r} is not supported, only {' and '.join(_NEUTRAL)}, one or several; leaving "
            "its energy out would be wrong: fit the model again without it (jaxmlip fit gap, or gap_fit), or "
            "label structures with quippy and read these"
        )
    result = {"": name}
    known = set(_NEUTRAL[name]) | ({*_SOAP, *_FLAGS, *_ALIASES} if name == "soap" else set(_PAIR)) | _REGRESSION
    for word in words[1:]:
        key, _, value = word.partition("=")
        key, value = _ALIASES.get(key, key), value.strip()
        if key not in known:
            raise ValueError(f"{path}: {unknown_name(f'key of {name}', key, sorted(known))}")
        neutral = _NEUTRAL[name].get(key)
        if neutral is not None and not _same(value, neutral):
            raise ValueError(f"{path}: {name} with {key}={value} is not supported (only {key}={neutral})")
        result[key] = value
    missing = [key for key in _REQUIRED[name] if key not in result]
    if missing:
        raise ValueError(f"{path}: {name} needs {', '.join(missing)}, which its descriptor string does not give")
    return result


def names_elements(words: dict[str, str]) -> bool:
    """Whether a descriptor says which elements it is for; gap_fit with add_species=F leaves them out (any element)."""
    return all(set(words.get(key, "0").split()) != {"0"} for key in _CENTRES[words[""]])


def elements_of(params: Any, e0: dict[int, float]) -> set[int]:
    """The elements of the training data that the file keeps, else those with an energy e0."""
    texts = [element.text or "" for element in params.iter("XYZ_data")]
    symbols = {word for text in texts for word in re.findall(r"^\s*([A-Z][a-z]?)\s+-?\d*\.\d", text, re.M)}
    return {atomic_numbers[symbol] for symbol in symbols} or {number for number, value in e0.items() if value}


def for_element(words: dict[str, str], number: int) -> dict[str, str]:
    """A descriptor of any element as one of the element with this atomic number."""
    named = {key: str(number) for key in _CENTRES[words[""]] if words.get(key, "0").strip() == "0"}
    return words | named


def settings_key(term: Term) -> tuple:
    """Equal for terms that one `GAPConfig` can hold together."""
    return term.words[""], *sorted(_settings_of(term).items())


def config_of(
    path: Path,
    terms: list[Term],
    age: dict[str, Any],
    species: tuple[int, ...] | None = None,
) -> GAPConfig:
    """The settings of all terms together.

    Args:
        path: the file, for messages.
        terms: at most one kind of SOAP and of distance_2b.
        age: what the version of the file did differently.
        species: atomic numbers in their order; None: those of the terms.

    Raises:
        ValueError: terms of one kind that differ in more than their element and δ.
    """
    soaps = [term for term in terms if term.words[""] == "soap"]
    pairs = [term for term in terms if term.words[""] == "distance_2b"]
    settings: dict[str, Any] = {"n_max": 1, "l_max": 0, "cutoff": 0.0}
    found_species = tuple(dict.fromkeys(int(term.words[key]) for term in pairs for key in ("Z1", "Z2")))
    if soaps:
        settings = _alike(path, [_settings_of(term) for term in soaps])
        found_species = settings.pop("species_Z")
        _check_species(path, found_species, soaps, pairs)
        settings |= {"delta": soaps[0].delta, **age}
    if pairs:
        found = _alike(path, [_settings_of(term) for term in pairs])
        soap_cutoff = settings["cutoff"] or found["distance_2b_cutoff"]
        settings |= {**found, "distance_2b_delta": pairs[0].delta}
        settings["cutoff"] = max(soap_cutoff, found["distance_2b_cutoff"])
        settings["soap_cutoff"] = None if soap_cutoff == settings["cutoff"] else soap_cutoff
    if species is not None and not (
        set(found_species) == set(species) if pairs and not soaps else found_species == species
    ):
        raise ValueError(
            f"{path}: one of its descriptors is for the elements {found_species}, another for {species}: several "
            "descriptors are supported for the same elements in the same order"
        )
    return GAPConfig(species=species or found_species, **settings)


def descriptor_strings(config: GAPConfig) -> dict[str, list[str]]:
    """The strings of each species, and of each pair of species where there is a pair term."""
    soap = config.soap
    words = [f"{key}={getattr(soap, 'sigma_atom' if key == 'atom_sigma' else key)!r}" for key in _SOAP]
    words += [f"{key}={'FT'[getattr(soap, key)]}" for key in _FLAGS if getattr(soap, key) is not None]
    species = " ".join(map(str, config.species))
    words += [f"n_species={len(config.species)}", f"species_Z={{{species}}}", "covariance_type=dot_product"]
    words += [f"zeta={config.zeta!r}", f"delta={config.delta!r}"]
    result = {"soap": [f"soap {' '.join(words)} Z={z}" for z in config.species]}
    if config.distance_2b_cutoff is not None:
        words = [f"{key}={getattr(config, f'distance_2b_{name}')!r}" for key, name in _PAIR.items()]
        words += ["covariance_type=ard_se", f"theta_uniform={config.distance_2b_theta!r}"]
        shared = f"distance_2b {' '.join(words)} delta={config.distance_2b_delta!r}"
        result["distance_2b"] = [f"{shared} Z1={config.species[a]} Z2={config.species[b]}" for a, b in config.pairs]
    return result


def pair_of(config: GAPConfig, words: dict[str, str]) -> tuple[int, int]:
    """The indices of the two species of a pair term, the smaller first."""
    a, b = sorted(config.species.index(int(words[key])) for key in ("Z1", "Z2"))
    return a, b


def _settings_of(term: Term) -> dict[str, Any]:
    words = term.words
    if words[""] != "soap":
        found = {f"distance_2b_{name}": float(words[key]) for key, name in _PAIR.items() if key in words}
        return found | {"distance_2b_theta": term.theta}
    found: dict[str, Any] = {key: kind(words[key]) for key, kind in _SOAP.items() if key in words}
    found["sigma_atom"] = found.pop("atom_sigma")
    found |= {key: words[key].upper().startswith("T") for key in _FLAGS if key in words}
    found["species_Z"] = tuple(int(z) for z in words.get("species_Z", "0").split())
    return found | {"zeta": term.zeta}


def _alike(path: Path, settings: list[dict[str, Any]]) -> dict[str, Any]:
    for other in settings[1:]:
        differing = [key for key in {**settings[0], **other} if settings[0].get(key) != other.get(key)]
        if differing:
            raise ValueError(
                f"{path}: descriptors of one kind with different {', '.join(differing)} are not supported: one SOAP "
                "and one distance_2b setting for all elements"
            )
    return dict(settings[0])


def _check_species(path: Path, species: tuple[int, ...], soaps: list[Term], pairs: list[Term]) -> None:
    centres = [int(term.words.get("Z", "0")) for term in soaps]
    others = [int(term.words[key]) for term in pairs for key in ("Z1", "Z2")]
    if 0 in (*species, *centres, *others):
        raise ValueError(f"{path}: Z=0 (any element) is not supported: fit with add_species, or name the elements")
    unknown = {*centres, *others} - set(species)
    if unknown:
        raise ValueError(f"{path}: elements {sorted(unknown)} are described but not in species_Z {species}")


def _same(value: str, neutral: str) -> bool:
    try:
        return float(value) == float(neutral)
    except ValueError:
        return value.upper()[:1] == neutral.upper()[:1] if neutral in "TF" else value.upper() == neutral.upper()


def pair_cutoff(r: Float[np.ndarray, " n_points"], config: GAPConfig) -> Float[np.ndarray, " n_points"]:
    """QUIP's f_c of a pair term at distances in Å: one, falling as a cosine over the transition width to zero."""
    width, cutoff = config.distance_2b_transition_width, config.distance_2b_cutoff or 0.0
    return (1 + np.cos(np.pi * np.clip((r - cutoff + width) / width, 0, 1))) / 2
