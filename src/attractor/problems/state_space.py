"""Linear dynamical systems, identified from what goes in and what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.problem import Minimization


def linear_system(
    order: int = 4,
    sequences: int = 200,
    length: int = 40,
    radius: float = 0.8,
    batch_size: int | None = 16,
    seed: int = 0,
) -> Minimization:
    r"""Learn a linear dynamical system by gradients through time; not convex in its poles. Minimum 0.

    $$ h_{t+1} = A h_t + e_n u_t, \qquad y_t = \langle c, h_t \rangle + d\, u_t, \qquad
       f = \frac{1}{2 N T} \sum_{i, t} (\hat y_{it} - y_{it})^2 $$

    A is the companion matrix with last row $-a$ (the controllable form), the inputs u are white. The true poles are
    random conjugate pairs, the outputs have variance 1; the iterate is ``{"a": (n,), "c": (n,), "d": ()}``, from zeros.

    Arguments:
        order: n, an even number >= 2.
        sequences: N, at least 1.
        length: T, at least 2.
        radius: Largest size of a pole, in (0, 1).
        batch_size: Sequences per step; `None`: all.
        seed: Of system and inputs.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("radius", radius, 0.0, 1.0, open_low=True, open_high=True)
    in_range("length", length, 2)
    if order < 2 or order % 2:
        raise ValueError(f"order: expected an even number >= 2, got {order}")
    rng = np.random.default_rng(seed)
    half = radius * rng.uniform(0.5, 1, order // 2) * np.exp(1j * rng.uniform(0, np.pi, order // 2))
    truth = {
        "a": jnp.asarray(np.poly(np.concatenate([half, half.conj()])).real[:0:-1], float),
        "c": jnp.asarray(rng.standard_normal(order) / order**0.5, float),
        "d": jnp.asarray(rng.standard_normal(), float),
    }
    power = jnp.sqrt(jnp.sum(impulse_response(truth, length) ** 2))
    truth |= {"c": truth["c"] / power, "d": truth["d"] / power}
    inputs = rng.standard_normal((sequences, length))
    past = np.subtract.outer(np.arange(length), np.arange(length))
    shifted = jnp.asarray(np.where(past >= 0, inputs[:, past.clip(0)], 0), float)  # (N, t, lag): u at t - lag
    return Minimization(
        _misfit,
        jax.tree.map(jnp.zeros_like, truth),
        (shifted, shifted @ impulse_response(truth, length)),
        batch_size=batch_size,
        optimum=0.0,
        solution=truth,
    )


def impulse_response(system: dict[str, Array], length: int) -> Float[Array, " length"]:
    """The outputs of a system of `linear_system` after a single input of 1: d, then c A^(t-1) e_n."""

    def advance(h: Array, _: None) -> tuple[Array, Array]:
        return jnp.append(h[1:], -system["a"] @ h), system["c"] @ h

    start = jnp.zeros_like(system["a"]).at[-1].set(1.0)
    return jnp.append(system["d"], jax.lax.scan(advance, start, None, length - 1)[1])


def _misfit(system: dict[str, Array], batch: tuple[Float[Array, "n t t"], Float[Array, "n t"]]) -> Float[Array, ""]:
    shifted, outputs = batch
    return jnp.mean((shifted @ impulse_response(system, outputs.shape[1]) - outputs) ** 2) / 2
