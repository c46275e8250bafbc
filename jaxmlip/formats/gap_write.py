"""QUIP's ``gap.xml`` with its files of sparse points, written so that quippy gives the same numbers.

In quippy: ``Potential(param_filename="gap.xml")``.

References:
    The files that ``gap_fit`` of quippy-ase 0.10.3 writes.
"""

import hashlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from jaxmlip.files import atomic_path
from jaxmlip.formats.gap_descriptor import COVARIANCES, NEWEST, descriptor_strings, pair_cutoff
from jaxmlip.potentials.base import Config, Params
from jaxmlip.potentials.gap import GAPConfig
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.sums import SumConfig


def write_gap(model: Model, path: str | Path) -> None:
    """Write ``NAME.xml`` and a file of sparse points for each element and pair of elements; numbers keep all digits.

    A sum of GAPs becomes one file with several SOAPs or pair terms.

    Raises:
        ValueError: the model is no GAP, or puts several elements into one channel, which QUIP does not know.
    """
    config, path = model.potential.config, Path(path)
    gaps = _gaps(config, model.params)
    label = "GAP_jaxmlip"
    root = ElementTree.Element(label)
    ElementTree.SubElement(root, "Potential", label=label, init_args=f"IP GAP label={label}")
    params = ElementTree.SubElement(root, "GAP_params", label=label, gap_version=str(NEWEST))
    data = ElementTree.SubElement(params, "GAP_data", do_core="F")
    e0 = dict(zip(config.species, np.asarray(model.params["offsets"], float)))
    for number in range(1, 119):
        ElementTree.SubElement(data, "e0", Z=str(number), value=repr(float(e0.get(number, 0.0))))
    written = [(own, *term) for own, params in gaps for term in _filled_terms(params, own)]
    sparse = ElementTree.SubElement(params, "gpSparse", label=label, n_coordinate=str(len(written)), fitted="T")
    for k, (own, name, text, alpha, points) in enumerate(written, 1):
        file = path.with_name(f"{path.name}.sparseX.{label}{k}")
        content = "".join(f"{x:.20e}\n" for x in points.ravel()).encode()
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)
        term = _coordinates(own, name, text, alpha, points)
        term.attrib |= {"label": f"{label}{k}", "sparseX_filename": file.name}
        term.set("sparseX_md5sum", hashlib.md5(content, usedforsecurity=False).hexdigest())
        sparse.append(term)
    ElementTree.indent(root)
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary)


def _gaps(config: Config, params: Params) -> list[tuple[GAPConfig, Params]]:
    """The GAPs of a sum, or the one there is."""
    if isinstance(config, SumConfig):
        return [*_gaps(config.first, params["first"]), *_gaps(config.second, params["second"])]
    if not isinstance(config, GAPConfig):
        raise ValueError(f"only GAP models and sums of them can be written as .xml, this is {type(config).__name__}")
    if config.n_channels is not None:
        raise ValueError("a GAP with n_channels (embedded species) has no form in QUIP: save it as .npz")
    return [(config, params)]


def _filled_terms(params: Params, config: GAPConfig):
    """Name, descriptor string, α and points of each element and pair that has any; rows of zeros are padding."""
    for name, rows in descriptor_strings(config).items():
        alpha = np.asarray(params["alpha"][name], float)
        points = np.asarray(params["points"][name], float)
        for text, a, x in zip(rows, alpha, points.reshape(*alpha.shape, -1)):
            kept = x.any(axis=1)
            if kept.any():
                yield name, text, a[kept], x[kept]


def _coordinates(config: GAPConfig, name: str, text: str, alpha: np.ndarray, points: np.ndarray) -> Any:
    soap = name == "soap"
    delta = config.delta if soap else config.distance_2b_delta
    term = ElementTree.Element("gpCoordinates", dimensions=str(points.shape[1]), signal_variance=repr(delta))
    term.attrib |= {"signal_mean": "0.0", "sparsified": "T", "n_permutations": "1", "n_sparseX": str(len(alpha))}
    term.set("covariance_type", COVARIANCES[name])
    cutoffs = np.ones(len(alpha))
    if soap:
        term.set("zeta", repr(config.zeta))
    else:
        ElementTree.SubElement(term, "theta").text = repr(config.distance_2b_theta)
        cutoffs = pair_cutoff(points[:, 0], config)
    ElementTree.SubElement(term, "descriptor").text = text
    ElementTree.SubElement(term, "permutation", i="1").text = "1"
    for i, (a, c) in enumerate(zip(alpha, cutoffs), 1):
        ElementTree.SubElement(term, "sparseX", i=str(i), alpha=repr(float(a)), sparseCutoff=repr(float(c)))
    return term
