"""Machine-learned interatomic potentials as pure JAX functions."""
