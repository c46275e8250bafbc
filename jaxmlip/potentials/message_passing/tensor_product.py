"""Messages: the tensor product of neighbours' features with the harmonics of a pair, weighted by radial functions."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.couplings import wigner_3j
from jaxmlip.potentials.message_passing.irreps import Block, Layer, Path, pieces

_MANY_CHANNELS = 32


def contributions(
    layer: Layer,
    radial: Float[Array, "n_atoms max_neighbors n_radial"],
    Y: Float[Array, "n_atoms max_neighbors n_harmonics"],
    features: Float[Array, "n_atoms max_neighbors n_in"],
    *,
    products: bool = True,
) -> Float[Array, "n_atoms n_messages"]:
    """Σ_j R_path(r_ij) (x_j ⊗ Y(r_ij)) of each path, flat, in the order of `Layer.paths`.

    With ``products`` sums over neighbours of many channels are matrix products: training, which differentiates twice,
    is faster by half. Without them energies and forces alone are.
    """
    sent = dict(zip(layer.sent, pieces(features, [block.size for block in layer.sent]), strict=True))
    sources = [layer.inputs[path.source] for path in layer.paths]
    R = pieces(radial, [block.channels for block in sources])
    y = _degrees(Y)
    return jnp.concatenate(
        [
            _sums(w, y[path.degree], sent[block], _coupling(layer, path), products)
            for path, block, w in zip(layer.paths, sources, R, strict=True)
        ],
        axis=1,
    )


def adjoint_contributions(
    layer: Layer,
    radial: Float[Array, "n_atoms max_neighbors n_radial"],
    Y: Float[Array, "n_atoms max_neighbors n_harmonics"],
    cotangents: Float[Array, "n_atoms max_neighbors n_messages"],
    *,
    products: bool = True,
) -> Float[Array, "n_atoms n_in"]:
    """The transpose of `contributions` summed at the senders: Σ_i R_path(r_ij) (c_i ⊗ Y(r_ij)) back to the inputs.

    ``Y`` is that of the vector from the atom i which receives to the atom j whose row it is.
    """
    sources = [layer.inputs[path.source] for path in layer.paths]
    received = layer.messages
    R = pieces(radial, [block.channels for block in sources])
    c = pieces(cotangents, [block.size for block in received])
    y = _degrees(Y)
    results: dict[Block, Array] = {}
    for k, (path, block) in enumerate(zip(layer.paths, sources, strict=True)):
        part = _sums(R[k], y[path.degree], c[k], _coupling(layer, path).transpose(2, 1, 0), products)
        results[block] = results[block] + part if block in results else part
    return jnp.concatenate([results[block] for block in layer.sent], axis=1)


def edge_cotangents(
    layer: Layer,
    radial: Float[Array, "n_atoms max_neighbors n_radial"],
    Y: Float[Array, "n_atoms max_neighbors n_harmonics"],
    features: Float[Array, "n_atoms max_neighbors n_in"],
    cotangents: Float[Array, "n_atoms n_messages"],
) -> tuple[Float[Array, "n_atoms max_neighbors n_radial"], Float[Array, "n_atoms max_neighbors n_harmonics"]]:
    """The transpose of `contributions` by R and Y: Σ_d y_d q_du and Σ_u R_u q_du, q_du = Σ_ck C[c, d, k] x_cu g_ku."""
    sent = dict(zip(layer.sent, pieces(features, [block.size for block in layer.sent]), strict=True))
    sources = [layer.inputs[path.source] for path in layer.paths]
    R = pieces(radial, [block.channels for block in sources])
    g = pieces(cotangents, [block.size for block in layer.messages])
    y = _degrees(Y)
    of_R, of_y = [], [jnp.zeros_like(part) for part in y]
    for k, (path, block) in enumerate(zip(layer.paths, sources, strict=True)):
        C = jnp.asarray(_coupling(layer, path), Y.dtype)
        received = jnp.einsum("cdk,aku->adcu", C, g[k].reshape(len(Y), -1, block.channels))
        x = sent[block].reshape(*Y.shape[:2], -1, block.channels)
        q = jnp.sum(x[:, :, None] * received[:, None], axis=3)
        of_R.append(jnp.sum(y[path.degree][..., None] * q, axis=2))
        of_y[path.degree] += jnp.sum(R[k][:, :, None] * q, axis=-1)
    return jnp.concatenate(of_R, axis=-1), jnp.concatenate(of_y, axis=-1)


def _coupling(layer: Layer, path: Path) -> Float[np.ndarray, "m1 m2 m3"]:
    """√(2l+1) times the 3j tensor: its outputs have the size of the inputs."""
    tensor = wigner_3j(layer.inputs[path.source].irrep.degree, path.degree, path.target.degree)
    return tensor * np.sqrt(2 * path.target.degree + 1)


def _degrees(Y: Array) -> list[Array]:
    """Harmonics of each degree."""
    l_max = round(Y.shape[-1] ** 0.5) - 1
    return pieces(Y, [2 * degree + 1 for degree in range(l_max + 1)])


def _sums(w: Array, y: Array, x: Array, coupling: np.ndarray, products: bool) -> Float[Array, "n_atoms n"]:
    """Σ_j w_u Σ_cd C[c, d, k] x_cu y_d, flat.

    With many channels the sum over neighbours may come first, as a matrix product an atom, and so do those of
    derivatives; with few ones such products are too small to be fast.
    """
    n_atoms, C = len(x), jnp.asarray(coupling, x.dtype)
    x = x.reshape(*x.shape[:2], C.shape[0], -1)
    if not products or x.shape[3] < _MANY_CHANNELS:
        matrix = jnp.einsum("amd,cdk->amkc", y, C)
        rotated = jnp.sum(matrix[..., None] * x[:, :, None], axis=3)
        return jnp.sum(w[:, :, None] * rotated, axis=1).reshape(n_atoms, -1)
    outer = jnp.einsum("amd,amn->adn", y, (w[:, :, None] * x).reshape(*x.shape[:2], -1))
    return jnp.einsum("adcu,cdk->aku", outer.reshape(n_atoms, -1, *x.shape[2:]), C).reshape(n_atoms, -1)
