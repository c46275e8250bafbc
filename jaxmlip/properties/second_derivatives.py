"""Second derivatives of the energy by two backward passes: what elasticity and vibrations are made of."""

from functools import partial

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.data.labels import VOIGT
from jaxmlip.graph.batch import Graph, batch
from jaxmlip.graph.derivatives import deformed
from jaxmlip.potentials.base import Params, Potential, cast_params, safe_edges
from jaxmlip.potentials.model import Model, predict, predict_energy


def hessian(model: Model, atoms: ase.Atoms, rows: Int[np.ndarray, " n_rows"]) -> Float[np.ndarray, "n_rows n"]:
    """Rows of the second derivatives with respect to displacements (Å) and the strain (six numbers, Voigt), in eV.

    x = (u_1x, …, u_Nz, η_xx, …, η_xy);  r = (1 + ε)(r⁰ + u), with ε_xy = η_xy / 2.
    """
    with jax.enable_x64(True):
        graph = batch(atoms, model.potential.config, dtype="float64")
        found = _rows(model.potential, cast_params(model.params, "float64"), graph, jnp.asarray(rows))
        return np.asarray(found)


def edge_hessians(model: Model, atoms: ase.Atoms) -> tuple[Graph, Float[np.ndarray, "n w 3 w 3"]]:
    """∂²E_i / ∂r_im ∂r_im′ of every atom with respect to the vectors to its own neighbours, and the graph; eV/Å²."""
    with jax.enable_x64(True):
        graph = batch(atoms, model.potential.config, dtype="float64")
        found = _edges(model.potential, cast_params(model.params, "float64"), graph)
        return jax.device_get(graph), np.moveaxis(np.asarray(found), 0, 1).reshape(*graph.mask.shape, 3, -1, 3)


def residual(model: Model, atoms: ase.Atoms) -> tuple[float, float]:
    """Largest force (eV/Å) and stress component (eV/Å³)."""
    with jax.enable_x64(True):
        graph = batch(atoms, model.potential.config, dtype="float64")
        found = predict(Model(model.potential, cast_params(model.params, "float64")), graph)
        forces, stress = np.asarray(found.forces), np.asarray(found.stress)
    return float(np.linalg.norm(forces, axis=1).max()), float(np.abs(stress).max())


@partial(jax.jit, static_argnums=0)
def _rows(potential: Potential, params: Params, graph: Graph, rows: Array) -> Array:
    n_atoms = graph.n_atoms

    def energy(x: Array) -> Array:
        eta = x[3 * n_atoms :]
        strain = jnp.zeros((3, 3), x.dtype)
        for k, (a, b) in enumerate(zip(*VOIGT, strict=True)):
            strain = strain.at[a, b].add(eta[k] / 2).at[b, a].add(eta[k] / 2)
        F = jnp.eye(3, dtype=x.dtype) + strain
        moved = deformed(graph, graph.positions + x[: 3 * n_atoms].reshape(n_atoms, 3), F)
        return predict_energy(Model(potential, params), moved).sum()

    # Two backward passes: a family may have no forward mode.
    start = jnp.zeros(3 * n_atoms + 6, graph.positions.dtype)
    _, pullback = jax.vjp(jax.grad(energy), start)
    unit = jnp.eye(len(start), dtype=start.dtype)
    return jax.lax.map(lambda row: pullback(unit[row])[0], rows)


@partial(jax.jit, static_argnums=0)
def _edges(potential: Potential, params: Params, graph: Graph) -> Array:
    vectors = safe_edges(graph, potential.config)

    def gradient(v: Array) -> Array:
        g = jax.grad(lambda v: potential.atomic_energies(params, graph, v).sum())(v)
        return jnp.where(graph.mask[:, :, None], g, 0)

    _, pullback = jax.vjp(gradient, vectors)
    width = graph.mask.shape[1]

    def column(k: Array) -> Array:
        slot = jnp.zeros((width, 3), vectors.dtype).at[k // 3, k % 3].set(1)
        row = pullback(jnp.broadcast_to(slot, vectors.shape))[0]  # of all atoms at once: they do not mix
        return jnp.where(graph.mask[:, :, None], row, 0)

    return jax.lax.map(column, jnp.arange(3 * width))
