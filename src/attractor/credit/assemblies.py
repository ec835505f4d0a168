"""Assemblies: groups of neurons that a stimulus and local plasticity form in a random area of which k neurons fire."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import Scalar, in_range

# ``rule(weights (m, k), fired (m,), key) -> weights``: of the synapses from m neurons to the k that they made fire.
Rule = Callable[[Float[Array, "m k"], Float[Array, " m"], PRNGKeyArray], Float[Array, "m k"]]


class Projection(NamedTuple):
    """What rounds of firing leave behind.

    Attributes:
        weights: ``(n + m, n)``, changed by the plasticity.
        winners: ``(rounds, k)``, the neurons that fired in each round.
    """

    weights: Float[Array, "n_plus_m n"]
    winners: Int[Array, "rounds k"]


def k_cap(inputs: Float[Array, " n"], k: int) -> Int[Array, " k"]:
    """The indices of the k largest inputs, the largest first; of equal ones those with the lower index.

    Arguments:
        inputs: What each of n neurons gets.
        k: How many fire, in [1, n].

    Raises:
        ValueError: if ``k`` is out of range.
    """
    in_range("k", k, 1, inputs.size)
    return jax.lax.top_k(inputs, k)[1]


def firing(winners: Int[Array, " k"], n: int) -> Float[Array, " n"]:
    """1 where a neuron fires, 0 elsewhere.

    Arguments:
        winners: Indices of those that fire.
        n: How many neurons there are, at least 1.

    Raises:
        ValueError: if ``n < 1``.
    """
    in_range("n", n, 1)
    return jnp.zeros(n).at[winners].set(1.0)


def random_area(key: PRNGKeyArray, n: int, m: int, p: Scalar) -> Float[Array, "n_plus_m n"]:
    """Synapses of weight 1 from an area and a stimulus to the area, each there with the probability p.

    Arguments:
        key: Draws the synapses.
        n: Neurons of the area, at least 1: the first n rows.
        m: Neurons of the stimulus, at least 1: the other rows.
        p: In [0, 1].

    Raises:
        ValueError: if an argument is out of range.
    """
    in_range("n", n, 1)
    in_range("m", m, 1)
    in_range("p", p, 0.0, 1.0)
    return jr.bernoulli(key, p, (n + m, n)).astype(float)


def hebb(beta: Scalar) -> Rule:
    r"""Who fires together: $w_{ji} \leftarrow (1 + \beta x_j)\, w_{ji}$ for every winner i; x_j says whether j fired.

    Arguments:
        beta: β ≥ 0; 0 leaves the weights as they are.

    Raises:
        ValueError: if ``beta`` is negative.
    """
    in_range("beta", beta, 0.0)
    return lambda weights, fired, key: weights * (1 + beta * fired[:, None])


def oja(beta: Scalar, alpha: Scalar) -> Rule:
    r"""Growth that forgets: $w_{ji} \leftarrow w_{ji} + \beta x_j w_{ji} (1 - \alpha w_{ji}^2)$ for every winner i.

    Weights come to $1/\sqrt\alpha$ (for $\beta \le 1/2$ without overshooting); α = 0 is `hebb`, and α = 1 leaves the
    weights of `random_area` as they are.

    Arguments:
        beta: β in [0, 1).
        alpha: α ≥ 0.

    Raises:
        ValueError: if an argument is out of range.

    Paper: Effects of Plasticity Functions on Neural Assemblies; the discretization is that of the authors' program.
    """
    in_range("beta", beta, 0.0, 1.0, open_high=True)
    in_range("alpha", alpha, 0.0)
    return lambda weights, fired, key: weights + beta * fired[:, None] * weights * (1 - alpha * weights**2)


def stdp(beta: Scalar, punish: Scalar) -> Rule:
    r"""Spike timing: what arrives before a neuron fires is rewarded, what comes later is punished.

    The rows' order is that of arrival. Every winner fires when its input reaches θ, the least total input of a winner:

    $$ s_{ji} = \sum_{l \le j} x_l w_{li}, \qquad
       w_{ji} \leftarrow w_{ji}\,(1 + \beta x_j) \text{ if } s_{ji} \le \theta,
       \text{ else } w_{ji}\,(1 - \beta_- x_j). $$

    Arguments:
        beta: β ≥ 0, the reward.
        punish: β₋ in [0, 1]; the paper's program tries 0 to 1/2 beside β = 0.1.

    Raises:
        ValueError: if an argument is out of range.

    Paper: Effects of Plasticity Functions on Neural Assemblies; the discretization is that of the authors' program, but
    for a stimulus whose synapses are summed up there and are single ones here.
    """
    in_range("beta", beta, 0.0)
    in_range("punish", punish, 0.0, 1.0)

    def rule(weights: Array, fired: Array, key: PRNGKeyArray) -> Array:
        arrived = jnp.cumsum(fired[:, None] * weights, 0)
        in_time = arrived <= arrived[-1].min()
        return weights * (1 + fired[:, None] * jnp.where(in_time, beta, -punish))

    return rule


def random_stdp(beta: Scalar, punish: Scalar, share: Scalar, alpha: Scalar = 0.0) -> Rule:
    r"""Spike timing with times that nobody knows: each synapse is rewarded with a probability, and else punished.

    $w_{ji} \leftarrow w_{ji} + b_{ji} x_j w_{ji} (1 - \alpha w_{ji}^2)$, where b is β with the probability ρ and
    -β₋ else, drawn anew for each synapse and round.

    Arguments:
        beta: β in [0, 1), the reward.
        punish: β₋ in [0, 1].
        share: ρ in [0, 1].
        alpha: α ≥ 0, as in `oja`.

    Raises:
        ValueError: if an argument is out of range.

    Paper: Effects of Plasticity Functions on Neural Assemblies; as in the authors' program.
    """
    in_range("beta", beta, 0.0, 1.0, open_high=True)
    in_range("punish", punish, 0.0, 1.0)
    in_range("share", share, 0.0, 1.0)
    in_range("alpha", alpha, 0.0)

    def rule(weights: Array, fired: Array, key: PRNGKeyArray) -> Array:
        change = jnp.where(jr.uniform(key, weights.shape) < share, beta, -punish)
        return weights + change * fired[:, None] * weights * (1 - alpha * weights**2)

    return rule


def assembly_project(
    weights: Float[Array, "n_plus_m n"],
    stimulus: Float[Array, " m"],
    k: int,
    rounds: int,
    rule: Rule,
    key: PRNGKeyArray,
    fired: Float[Array, " before"] | None = None,
) -> Projection:
    """Fire a stimulus into an area again and again: in every round the k neurons with the largest input fire and learn.

    The input is the sum of the weights from the stimulus and from what fired in the area in the round before; ``rule``
    then changes the synapses to the winners. Rounds with ``hebb(0.0)`` recall without learning.

    Arguments:
        weights: From the area's n neurons and then the stimulus' m ones (`random_area`); finite.
        stimulus: 1 for each neuron of the stimulus that fires, in all rounds.
        k: How many of the area fire, in [1, n].
        rounds: How many, at least 1.
        rule: Plasticity, such as `hebb`, `oja` or `stdp`.
        key: For rules with chance in them.
        fired: What fired in the area before the first round, 1 for each of n; default: nothing.

    Raises:
        ValueError: if ``k`` or ``rounds`` is out of range, or the shapes do not fit together.

    Paper: Effects of Plasticity Functions on Neural Assemblies.
    """
    n = weights.shape[-1]
    in_range("k", k, 1, n)
    in_range("rounds", rounds, 1)
    if weights.shape != (n + stimulus.size, n):
        raise ValueError(
            f"weights: expected the shape (n + m, n) for a stimulus of m = {stimulus.size} neurons, got "
            f"{weights.shape}; random_area(key, n, m, p) makes such"
        )
    if fired is not None and fired.shape != (n,):
        raise ValueError(f"fired: expected the shape ({n},), one for each neuron of the area, got {fired.shape}")

    def one_round(carry: tuple[Array, Array], key: PRNGKeyArray) -> tuple[tuple[Array, Array], Array]:
        weights, before = carry
        everything = jnp.concatenate([before, stimulus.astype(weights.dtype)])
        winners = k_cap(everything @ weights, k)
        # Only the winners' synapses change: a twentieth of all, which is what a rule is given.
        weights = weights.at[:, winners].set(rule(weights[:, winners], everything, key))
        return (weights, firing(winners, n).astype(weights.dtype)), winners

    first = jnp.zeros(n, weights.dtype) if fired is None else fired.astype(weights.dtype)
    (weights, _), winners = jax.lax.scan(one_round, (weights, first), jr.split(key, rounds))
    return Projection(weights, winners)


def support(winners: Int[Array, "rounds k"], n: int) -> Int[Array, " rounds"]:
    """How many different neurons have fired up to each round; it stands still where an assembly has formed.

    Arguments:
        winners: As `assembly_project` returns them.
        n: Neurons of the area, at least 1.

    Raises:
        ValueError: if ``n < 1``.
    """
    in_range("n", n, 1)
    ever = jax.vmap(lambda w: firing(w, n))(winners)
    return jax.lax.cummax(ever, axis=0).sum(1).astype(int)
