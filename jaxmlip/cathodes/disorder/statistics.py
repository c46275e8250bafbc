"""Means of correlated samples with the errors that they deserve.

References:
    Sokal, in Functional Integration (Plenum, 1997), section 3: integrated autocorrelation time, automatic window.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_WINDOW = 6.0  # autocorrelation times that are summed


class Estimate(NamedTuple):
    """A mean, its standard error, and the autocorrelation time in samples (½: independent samples)."""

    mean: Float[np.ndarray, "*shape"]
    error: Float[np.ndarray, "*shape"]
    time: Float[np.ndarray, "*shape"]

    def __str__(self) -> str:
        """Mean ± error of a single number."""
        return f"{float(self.mean):.4g} ± {float(self.error):.1g}"


def estimate(series: Float[np.ndarray, "n_samples n_chains *shape"]) -> Estimate:
    """Mean over samples and chains with a standard error that knows how correlated the samples are.

    With τ the integrated autocorrelation time, error² = 2 τ var / (n_samples n_chains). Chains count as independent;
    what never changes has no error.

    >>> rng = np.random.default_rng(0)
    >>> found = estimate(rng.normal(size=(1000, 4)))
    >>> bool(abs(found.mean) < 4 * found.error), 0.4 < float(found.time) < 0.6, 0.014 < float(found.error) < 0.018
    (True, True, True)

    Raises:
        ValueError: fewer than two samples in all.
    """
    values = np.asarray(series, float)
    n_samples, n_chains = values.shape[:2]
    if n_samples * n_chains < 2:
        raise ValueError("an error needs at least two samples")
    flat = values.reshape(n_samples, n_chains, -1)
    deviation = flat - flat.mean(axis=(0, 1))
    variance = np.mean(deviation**2, axis=(0, 1))
    times = np.array([_time(deviation[:, :, k], variance[k]) for k in range(flat.shape[2])])
    n = n_samples * n_chains
    error = np.sqrt(np.maximum(2 * times, 1.0) * variance / max(n - 1, 1))
    shape = values.shape[2:]
    return Estimate(flat.mean(axis=(0, 1)).reshape(shape), error.reshape(shape), times.reshape(shape))


def _time(deviation: np.ndarray, variance: float) -> float:
    """½ + Σ_t ρ(t) up to the first t beyond `_WINDOW` times the sum so far."""
    n = len(deviation)
    if variance <= 0 or n < 3:
        return 0.5
    spectrum = np.abs(np.fft.rfft(deviation, 2 * n, axis=0)) ** 2
    correlation = np.fft.irfft(spectrum, axis=0)[:n].mean(axis=1) / np.arange(n, 0, -1) / variance
    times = np.cumsum(correlation) - 0.5 * correlation[0]
    beyond = np.flatnonzero(np.arange(n) >= _WINDOW * times)
    return float(max(times[beyond[0] if len(beyond) else n - 1], 0.5))
