"""Sound matching: a dynamic range compressor with hidden settings, to be found again from what it does to a sound."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization
from attractor.registry import problem

RATE = 8_000  # samples a second
# Threshold (dB), ratio, attack (s), release (s), makeup gain (dB): the hidden settings, and where searches start.
HIDDEN = (-24.0, 4.0, 0.005, 0.06, 3.0)
LOWEST, HIGHEST = (-35.0, 2.0, 0.002, 0.03, -3.0), (-15.0, 8.0, 0.02, 0.15, 6.0)


def ballistics(gain: Float[Array, " n"], attack: Float[Array, ""], release: Float[Array, ""]) -> Float[Array, " n"]:
    r"""Smooth a gain, at one speed where it falls and at another where it recovers.

    $$ y_n = (1 - \alpha_n)\, y_{n-1} + \alpha_n g_n, \qquad \alpha_n = \alpha_{\text{attack}} \text{ if } g_n < y_{n-1}
    \text{, else } \alpha_{\text{release}}, \qquad y_0 = 1 $$

    Arguments:
        gain: g, in (0, 1].
        attack: Coefficient, in (0, 1).
        release: Coefficient, in (0, 1).
    """

    def follow(y: Array, g: Array) -> tuple[Array, Array]:
        y = y + jnp.where(g < y, attack, release) * (g - y)
        return y, y

    return lax.scan(follow, jnp.ones((), gain.dtype), gain)[1]


def recursive_filter(decay: Float[Array, " n"], drive: Float[Array, " n"]) -> Float[Array, " n"]:
    r"""The recursion $y_n = c_n y_{n-1} + d_n$ from $y_0 = 0$, in parallel: its depth is of order log n.

    What `ballistics` are once the $\alpha_n$ are known. (On few cores, and above all to compile, a loop is faster.)

    Arguments:
        decay: c.
        drive: d.

    Paper: Sound Matching an Analogue Levelling Amplifier Using the Newton-Raphson Method.
    """

    def after(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return lax.associative_scan(after, (decay, drive))[1]


def settings_to_vector(settings: Float[Array, " 5"]) -> Float[Array, " 5"]:
    """Threshold and makeup in tens of dB, the logarithms of ratio - 1 and of both times: all real, all of order 1."""
    threshold, ratio, attack, release, makeup = settings
    return jnp.stack([threshold / 10, jnp.log(ratio - 1), jnp.log(attack), jnp.log(release), makeup / 10])


def vector_to_settings(x: Float[Array, " 5"]) -> Float[Array, " 5"]:
    """The inverse of `settings_to_vector`."""
    return jnp.stack([10 * x[0], 1 + jnp.exp(x[1]), jnp.exp(x[2]), jnp.exp(x[3]), 10 * x[4]])


def decibels(gain: Float[Array, "..."]) -> Float[Array, "..."]:
    """Level of a gain or of samples, of those below 1e-4 (-80 dB) that of 1e-4."""
    return 20 * jnp.log10(jnp.maximum(jnp.abs(gain), 1e-4))


def from_decibels(level: Float[Array, "..."]) -> Float[Array, "..."]:
    """The gain of a level."""
    return 10 ** (level / 20)


def compress(x: Float[Array, " 5"], sound: Float[Array, " n"]) -> Float[Array, " n"]:
    r"""A feed-forward compressor: above a threshold T, loudness grows R times slower.

    $$ \text{out} = \text{makeup} \cdot \text{ballistics}(10^{g / 20}) \cdot \text{sound}, \qquad g = \min(0, (1 -
    1/R)(T - 20 \log_{10} |\text{sound}|)) $$

    with the coefficient $1 - e^{-1 / (8000\, \tau)}$ for an attack or release time of $\tau$ seconds. As in the
    authors' program there is no knee, and it is the gain that is smoothed, not its logarithm.

    Arguments:
        x: Settings, as from `settings_to_vector`.
        sound: Samples, 8,000 a second.

    Paper: Sound Matching an Analogue Levelling Amplifier Using the Newton-Raphson Method.
    """
    threshold, ratio, attack, release, makeup = vector_to_settings(x)
    gain = from_decibels(jnp.minimum(0, (1 - 1 / ratio) * (threshold - decibels(sound))))
    speeds = -jnp.expm1(-1 / (RATE * jnp.stack([attack, release])))
    return from_decibels(makeup) * ballistics(gain, speeds[0], speeds[1]) * sound


@problem("compressor-matching", metric="loss", steps=50, target=1e-6)
def compressor_matching(seconds: float = 0.25, seed: int = 0) -> Minimization:
    r"""Find five settings of a compressor from its input and output; loss: the error's share of the target's energy.

    $$ f(x) = \sum_n (\hat y_n(x) - y_n)^2 / \sum_n y_n^2 $$

    The sound is noise whose loudness jumps every 25 ms between -46 and -6 dB. Starts are drawn, in the coordinates of
    `settings_to_vector`, from `LOWEST` to `HIGHEST`.

    Arguments:
        seconds: Length of the sound, in [0.1, inf).
        seed: Of the sound.

    Raises:
        ValueError: for a length out of range.
    """
    in_range("seconds", seconds, 0.1)
    noise_key, level_key = jr.split(jr.key(seed))
    n = int(seconds * RATE)
    levels = jr.uniform(level_key, (n // 200 + 1,), minval=-46.0, maxval=-6.0)
    sound = jr.normal(noise_key, (n,)) * from_decibels(jnp.repeat(levels, 200)[:n])
    solution = settings_to_vector(jnp.asarray(HIDDEN))
    target = jax.jit(compress)(solution, sound)
    return Minimization(eqx.Partial(_error_share, sound, target), _random_settings, optimum=0.0, solution=solution)


def _error_share(sound: Array, target: Array, x: Float[Array, " 5"], batch: None = None) -> Float[Array, ""]:
    return jnp.sum((compress(x, sound) - target) ** 2) / jnp.sum(target**2)


def _random_settings(key: PRNGKeyArray) -> Float[Array, " 5"]:
    lowest, highest = (settings_to_vector(jnp.asarray(b)) for b in (LOWEST, HIGHEST))
    return jr.uniform(key, (5,), minval=lowest, maxval=highest)
