"""SOAP, the smooth overlap of atomic positions: the power spectrum of the neighbour density, exactly as in QUIP.

The neighbours of atom i in species channel S, each a Gaussian of width σ, are expanded in radial functions and
spherical harmonics; products of the coefficients, summed over m, do not change under rotation:

    c_{S n l m} = Σ_{j in S} f_c(r_ij) g_ln(r_ij) Y_lm(r̂_ij)  [+ w g_01(0) Y_00 for the central atom, l = 0, n = 1],
    p_{kk'l} = f_kk' / √(2l + 1) Σ_m c_{k l m} c_{k' l m},     k = (S, n), k ≥ k', f = 1 on the diagonal, else √2,

then normalised to length 1. The dot product of two such vectors is the overlap of two environments integrated over all
rotations: 1 for equal ones, so that a matrix of dot products is a similarity map (`soap`).

Eleven elements with n_max = l_max = 4 make 4,951 components. Shorter forms, beside the exact one: ``nu_R``, ``nu_S`` =
1 sum one of the two densities over its radial or species index, 0 both (QUIP's keys of these names, the same vectors);
``embedding`` puts elements into fewer channels.

References:
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), equations 24-36.
    Darby, Kermode, Csányi, npj Comput. Mater. 8, 166 (2022), equations 8-11: ν_R, ν_S.
    Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018), equation 12: species embedding.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Array, Bool, Float

from jaxmlip.basis.chebyshev import chebyshev_factors
from jaxmlip.basis.cutoff import transition_cutoff
from jaxmlip.basis.gaussian_radial import Radial, RadialTable, degree_of, radial_table
from jaxmlip.basis.harmonics import spherical_harmonics
from jaxmlip.config import Bounds, ConfigError, Count, Positive, Settings
from jaxmlip.graph.batch import Graph, batch, edge_vectors


@dataclasses.dataclass(frozen=True)
class Spectrum(Settings):
    """What the spectrum of an environment is made of: settings that `SOAP` and GAP share, by QUIP's names."""

    n_max: Count = 4
    """Radial functions."""
    l_max: Annotated[int, Bounds(0, 20)] = 4
    """Largest degree of the spherical harmonics."""
    sigma_atom: Positive = 0.5
    """Å; width of the Gaussian of a neighbour (QUIP: ``atom_sigma``)."""
    cutoff_transition_width: Positive = 0.5
    """Å; over which neighbours fade out before the cutoff of SOAP."""
    central_weight: float = 1.0
    """Weight of the central atom's own Gaussian."""
    basis_error_exponent: float = 10.0
    """The radial basis reaches to where a Gaussian at the cutoff has fallen to ten to the power of minus this."""
    covariance_sigma0: float = 0.0
    """Size of a last component, the same for all atoms, added after normalisation."""
    normalise: bool = True
    """Divide the spectrum of each atom by its norm."""
    central_reference_all_species: bool | None = None
    """The central atom stands in the density of every element. None: with one species, as QUIP does."""
    nu_R: Annotated[int, Bounds(0, 2)] = 2  # noqa: N815
    """Densities of the product that keep their radial index; 2: exact; 1, 0: compressed."""
    nu_S: Annotated[int, Bounds(0, 2)] = 2  # noqa: N815
    """Densities that keep their species index; 2: exact; 1, 0: compressed."""


@dataclasses.dataclass(frozen=True)
class _Reach(Settings):
    """Comes first among the settings of `SOAP`."""

    species: tuple[int | str, ...]
    """Elements in the order of their channels."""
    cutoff: Positive = 5.0
    """Å; an atom sees its neighbours up to here."""


@dataclasses.dataclass(frozen=True)
class SOAP(Spectrum, _Reach):
    """Settings of the descriptor; names and defaults are QUIP's where it has them, lengths in Å.

    >>> SOAP(species=("Li", "O")).n_features, SOAP(species=("Si",), n_max=8, l_max=8).n_features
    (181, 325)
    """

    embedding: tuple[tuple[float, ...], ...] | None = None
    """Weight of each species in each channel, [n_species, n_channels]; None: a channel a species (exact)."""

    def __post_init__(self) -> None:
        """Symbols become atomic numbers; refuses what has no meaning."""
        super().__post_init__()
        object.__setattr__(self, "species", tuple(atomic_numbers[s] if isinstance(s, str) else s for s in self.species))
        if self.cutoff_transition_width > self.cutoff:
            raise ConfigError(
                f"cutoff_transition_width must lie within the cutoff {self.cutoff} Å, got "
                f"{self.cutoff_transition_width}"
            )
        lengths = {len(row) for row in self.embedding or ()}
        if self.embedding is not None and (len(self.embedding) != len(self.species) or len(lengths) != 1):
            raise ConfigError(
                f"embedding needs a row of weights for each of {len(self.species)} species, all equally long: got "
                f"{len(self.embedding)} rows of lengths {sorted(lengths)}"
            )

    @property
    def radial(self) -> Radial:
        """What the radial basis depends on."""
        return Radial(self.cutoff, self.n_max, self.l_max, self.sigma_atom, self.basis_error_exponent)

    @property
    def channels(self) -> Float[np.ndarray, "n_species n_channels"]:
        """Weight of each species in each channel."""
        return np.eye(len(self.species)) if self.embedding is None else np.array(self.embedding, float)

    @property
    def n_density(self) -> int:
        """Expansion coefficients c of an atom."""
        return self.channels.shape[1] * self.n_max * (self.l_max + 1) ** 2

    @property
    def n_features(self) -> int:
        """Components of the vector, the trailing one included."""
        n, channels = self.n_max, self.channels.shape[1]
        K = [(channels if self.nu_S > k else 1) * (n if self.nu_R > k else 1) for k in (0, 1)]
        pairs = K[0] * (K[0] + 1) // 2 if self.symmetric else K[0] * K[1]
        return (self.l_max + 1) * pairs + 1

    @property
    def symmetric(self) -> bool:
        """Whether both densities keep the same indices, so that half of their products is enough."""
        return self.nu_R != 1 and self.nu_S != 1

    @property
    def central_everywhere(self) -> bool:
        """Whether the central atom stands in every channel."""
        given = self.central_reference_all_species
        return len(self.species) == 1 if given is None else given


def soap(atoms: ase.Atoms | Sequence[ase.Atoms], settings: SOAP) -> Float[Array, "n_atoms n_features"]:
    """SOAP vectors of all atoms, structure after structure; no unit.

    >>> import ase.build
    >>> crystals = [ase.build.bulk("Si", a=a) for a in (5.43, 5.6, 6.2)]
    >>> x = soap(crystals, SOAP(species=("Si",), n_max=6, l_max=6))[::2]
    >>> [round(float(similarity), 2) for similarity in (x @ x.T)[0]]  # of the first crystal to all
    [1.0, 0.99, 0.9]

    Raises:
        ValueError: an element that is not in ``settings.species``, or overlapping atoms.
    """
    graph = batch(atoms, settings)
    vectors = jnp.where(graph.mask[:, :, None], edge_vectors(graph), settings.cutoff / 2)
    return _soap(settings, graph, vectors)


def soap_vectors(
    graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"], settings: SOAP, table: RadialTable | None = None
) -> Float[Array, "n_atoms n_features"]:
    """The power spectrum of each atom of a graph whose masked ``vectors`` (Å) are harmless numbers, not zero.

    ``table`` replaces the radial basis of ``settings``, to differentiate with respect to it.
    """
    table = radial_table(settings.radial, vectors.dtype.itemsize) if table is None else table
    channels = neighbor_channels(graph, settings, vectors.dtype)
    blocks = []
    for g, Y in _pair_functions(graph, vectors, settings, table):
        weighted = (channels[:, :, None, :] * g[:, None]).reshape(g.shape[0], -1, g.shape[2])
        blocks.append(jnp.einsum("akj,amj->akm", weighted, Y))
    return _spectrum(with_centre(blocks, graph, settings, table), settings)


def pair_density(
    graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"], settings: SOAP, table: RadialTable | None = None
) -> Float[Array, "n_atoms max_neighbors n_density"]:
    """What each neighbour adds to the coefficients c, flat: degree by degree, then channel, n and m (fastest)."""
    table = radial_table(settings.radial, vectors.dtype.itemsize) if table is None else table
    channels = neighbor_channels(graph, settings, vectors.dtype)
    shape = (*vectors.shape[:2], -1)
    blocks = []
    for g, Y in _pair_functions(graph, vectors, settings, table):
        w, g, Y = (jnp.swapaxes(part, 1, 2) for part in (channels, g, Y))
        product = w[..., None, None] * g[:, :, None, :, None] * Y[:, :, None, None, :]
        blocks.append(product.reshape(shape))
    return jnp.concatenate(blocks, axis=-1)


def power_spectrum(
    density: Float[Array, "n_atoms n_density"], graph: Graph, settings: SOAP, table: RadialTable | None = None
) -> Float[Array, "n_atoms n_features"]:
    """The vectors of `soap_vectors` from `pair_density` summed over neighbours."""
    table = radial_table(settings.radial, density.dtype.itemsize) if table is None else table
    blocks, start = [], 0
    n_functions = settings.channels.shape[1] * settings.n_max
    for degree in range(settings.l_max + 1):
        stop = start + n_functions * (2 * degree + 1)
        blocks.append(density[:, start:stop].reshape(density.shape[0], n_functions, 2 * degree + 1))
        start = stop
    return _spectrum(with_centre(blocks, graph, settings, table), settings)


_soap = jax.jit(lambda settings, graph, vectors: soap_vectors(graph, vectors, settings), static_argnums=0)


def _pair_functions(graph: Graph, vectors: Array, settings: SOAP, table: RadialTable) -> list[tuple[Array, Array]]:
    """f_c g_ln [n_atoms, n_max, max_neighbors] and Y_lm [n_atoms, 2l + 1, max_neighbors], degree by degree."""
    v = jnp.swapaxes(vectors, 1, 2)
    r = jnp.sqrt(jnp.sum(v * v, axis=1, keepdims=True))
    g = radial_part(r, graph.mask, settings, table)
    return [(g[:, degree], Y) for degree, Y in enumerate(angular_part(v / r, settings.l_max))]


def radial_part(
    r: Float[Array, "n_atoms 1 max_neighbors"],
    mask: Bool[Array, "n_atoms max_neighbors"],
    settings: SOAP,
    table: RadialTable,
) -> Float[Array, "n_atoms n_degrees n_max max_neighbors"]:
    """f_c(r) g_ln(r) of each neighbour; 0 if masked.

    Components stand before neighbours, so that XLA's loops run on adjacent numbers. The factor (2l + 1)^(−1/4) of each
    c makes products of two carry 1/√(2l + 1).
    """
    inside = mask[:, None] & (r < settings.cutoff)
    envelope = jnp.where(inside, transition_cutoff(r, settings.cutoff, settings.cutoff_transition_width), 0)
    left, right = chebyshev_factors(r * (2 / settings.cutoff) - 1, degree_of(table))
    products = (jnp.concatenate(left, axis=1) * envelope)[:, :, None] * jnp.concatenate(right, axis=1)[:, None]
    flat = products.reshape(products.shape[0], -1, products.shape[-1])
    weights = (2 * np.arange(settings.l_max + 1) + 1.0) ** -0.25
    coefficients = jnp.asarray(table.coefficients * weights[None, :, None], r.dtype).reshape(flat.shape[1], -1)
    g = jnp.einsum("pq,apj->aqj", coefficients, flat)
    return g.reshape(g.shape[0], settings.l_max + 1, settings.n_max, -1)


def angular_part(
    unit: Float[Array, "n_atoms 3 max_neighbors"], l_max: int
) -> list[Float[Array, "n_atoms _ max_neighbors"]]:
    """Y_lm of unit vectors, [n_atoms, 2l + 1, max_neighbors] for each degree."""
    x, y, z = jax.lax.split(unit, [1, 1, 1], axis=1)
    return [jnp.concatenate(Y, axis=1) for Y in spherical_harmonics(x, y, z, l_max)]


def neighbor_channels(graph: Graph, settings: SOAP, dtype) -> Float[Array, "n_atoms n_channels max_neighbors"]:
    """Weight of each neighbour in each channel."""
    return jnp.swapaxes(jnp.asarray(settings.channels, dtype)[graph.neighbor_species], 1, 2)


def with_centre(
    blocks: list[Float[Array, "n_atoms n_functions _"]], graph: Graph, settings: SOAP, table: RadialTable
) -> list[Float[Array, "n_atoms n_functions _"]]:
    """The coefficients with the central atom's, which is in l = 0, n = 1 alone."""
    dtype, weights = blocks[0].dtype, settings.channels
    own = np.broadcast_to(weights.sum(axis=0), weights.shape) if settings.central_everywhere else weights
    first = np.eye(settings.n_max)[0] * (settings.central_weight / np.sqrt(4 * np.pi))
    centre = (own[:, :, None] * first).reshape(len(own), -1)
    added = jnp.asarray(centre, dtype)[graph.species] * jnp.asarray(table.origin, dtype)
    return [blocks[0] + added[:, :, None], *blocks[1:]]


def _spectrum(blocks: list[Array], settings: SOAP) -> Array:
    """Products of coefficients, normalised, l fastest, with the trailing component."""
    products = jnp.stack([_products(c, settings) for c in blocks], axis=-1).reshape(blocks[0].shape[0], -1)
    if settings.normalise:
        squares = jnp.sum(products**2, axis=1, keepdims=True)
        products = products * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))
    last = jnp.full((products.shape[0], 1), settings.covariance_sigma0, products.dtype)
    return jnp.concatenate([products, last], axis=1)


def _products(c: Float[Array, "n_atoms n_functions n_m"], settings: SOAP) -> Float[Array, "n_atoms n_products"]:
    """Σ_m of products of one degree: row by row of the lower triangle, or all where one density is summed."""
    first, second = (_summed(c, settings, k) for k in (0, 1))
    P = jnp.einsum("akm,alm->akl", first, second)
    if not settings.symmetric:
        return P.reshape(P.shape[0], -1)
    rows, columns = np.tril_indices(P.shape[1])
    weights = np.where(rows == columns, 1, np.sqrt(2))
    lower = jnp.take(P.reshape(P.shape[0], -1), rows * P.shape[1] + columns, axis=1, unique_indices=True)
    return lower * jnp.asarray(weights, P.dtype)[None]


def _summed(c: Array, settings: SOAP, density: int) -> Array:
    """The first (0) or second (1) density of the products: summed over the indices that it does not keep."""
    n_atoms, _, n_m = c.shape
    c = c.reshape(n_atoms, -1, settings.n_max, n_m)
    if settings.nu_S <= density:
        c = c.sum(axis=1, keepdims=True)
    if settings.nu_R <= density:
        c = c.sum(axis=2, keepdims=True)
    return c.reshape(n_atoms, -1, n_m)
