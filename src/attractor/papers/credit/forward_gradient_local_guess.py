"""Guided forward gradients: directional derivatives along the gradients of local losses, and not along random numbers.

```python
from attractor import run
from attractor.credit import guided_forward_descent, layered_digits
for guess in ("local", "random"):
    trace = run(layered_digits(), guided_forward_descent(0.01, guess=guess), steps=300, every=300)
    print(guess, trace["test_accuracy"].values[0, 0, -1])
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree

from attractor import LogUniform
from attractor.credit import LayeredLoss, dense, dense_params, estimator_quality, first_heads, guided_gradient, plain
from attractor.papers.words import Evidence, cached, claim, key, paired_difference, ratio_of_means, tune_descent
from attractor.problems.digits import digits
from attractor.problems.held_out import halves

LOSS = LayeredLoss(dense, optax.softmax_cross_entropy_with_integer_labels)
(IMAGES, LABELS), PARTS = digits()[0], halves(digits()[1])
LOCAL, RANDOM = ([(guess, "global", space) for space in ("activations", "weights")] for guess in ("local", "random"))
CHAIN, GREEDY = "backpropagation", ("local", "local", "activations")
WAYS = [*LOCAL, *RANDOM, GREEDY, CHAIN]


def _start(key):
    """A network with three layers of 24 units, and its heads."""
    params = dense_params(key, (64, 24, 24, 24, 10))
    return params, first_heads(jr.fold_in(key, 1), LOSS.at((IMAGES[:1], LABELS[:1])), params)


def _slope(state, key, share, way, factor):
    """Gradients of network and heads by one of the ways; those of its hidden layers times a factor."""
    drawn, params = jr.randint(key, (32,), 0, len(IMAGES)), state[0]
    loss = LOSS.at((jnp.asarray(IMAGES)[drawn], jnp.asarray(LABELS)[drawn]))

    def guided(guess, target, space):
        return guided_gradient(loss, *state, jr.fold_in(key, 1), guess=guess, target=target, space=space)[1:]  # pyright: ignore[reportCallIssue]

    def chain():
        return jax.grad(loss)(params), jax.tree.map(jnp.zeros_like, state[1])

    (*hidden, last), of_heads = jax.lax.switch(way, [*(partial(guided, *w) for w in WAYS[:-1]), chain])
    return [*jax.tree.map(lambda g: factor * g, hidden), last], of_heads


def _grade(state, key, way, factor):
    """Accuracy on validation images; on test images, before the numbers of the state."""
    right = {name: jax.vmap(lambda x: dense(state[0], x, plain))(x).argmax(-1) == y for name, (x, y) in PARTS.items()}
    return right["validation"].mean(), jnp.append(right["test"].mean(), ravel_pytree(state)[0])


@cached
def _trained(way, factor=1.0):
    """Test accuracies, and then states, of eight tuned runs."""
    traced = jnp.asarray(WAYS.index(way)), jnp.asarray(factor)
    return tune_descent(_start, _slope, _grade, *traced, searched=LogUniform(1e-3, 3e-2), steps=200)


@jax.jit
def _cosines(states, key, factor):
    """Of estimates with the gradient in the hidden layers, by guess: weights, on one batch."""
    restore = ravel_pytree(_start(key))[1]

    def at(guess, factor, state):
        def estimate(loss, params, key):
            found = guided_gradient(loss, params, heads, key, guess=guess, space="weights")
            return found.value, jax.tree.map(lambda g: factor * g, found.gradient)

        params, heads = restore(state)
        batch = jax.tree.map(lambda a: a[:32], PARTS["validation"])
        return estimator_quality(estimate, LOSS.at(batch), params, key, 16).cosine[:3]

    return [jax.vmap(partial(at, *of))(states) for of in (("local", factor), ("random", 1.0))]


@claim("digits, trained: local guesses of weights have 5 times random ones' cosine with the gradient, in each layer",
       source="ours", broken={"sign flipped": {"factor": -1.0}})  # fmt: skip
def local_guesses_are_nearer(factor=1.0):
    local, drawn = _cosines(jnp.asarray(_trained(LOCAL[1])[:, 1:], jnp.float32), key(1), factor)
    return Evidence.of_cases({f"layer {i + 1}": ratio_of_means(local[:, i], drawn[:, i]) for i in range(3)}, at_least=5)


def _above(ours, other, factor, share=0.0):
    """Test accuracies above another way's, or above what lies that far from it to backpropagation."""
    mine, theirs, chain = (found[:, 0] for found in (_trained(ours, factor), _trained(other), _trained(CHAIN)))
    return paired_difference(mine, theirs + share * (chain - theirs))


def _given(way, least):
    return {"the other learns": _trained(way)[:, 0].mean() > least}


FROZEN = {"hidden layers as they start": {"factor": 0.0}}
MATCHES = "digits, both tuned: along local guesses of {} within two points of backpropagation's test accuracy"


@claim("digits, all tuned: local guesses close half of random ones' gap to backpropagation, in activations, in weights",
       source="scaled", broken=FROZEN,
       reason="44 % of it in activations, 95 % in weights; eight seeds do not decide the first")  # fmt: skip
def closes_half_of_the_gap(factor=1.0):
    means = [_trained(way)[:, 0].mean() for way in WAYS]
    cases = {ours[2]: _above(ours, other, factor, 0.5) for ours, other in zip(LOCAL, RANDOM, strict=True)}
    given = {"random ones learn, and lag": min(means) > 0.7 and means[-1] - max(means[2:4]) > 0.03}
    return Evidence.of_cases(cases, at_least=0.0, given=given, note=", ".join(f"{m:.3f}" for m in means))


@claim(MATCHES.format("activations"), source="ours", broken=FROZEN, reason="four points less: 0.903 of 0.944")
def matches_backpropagation(factor=1.0):
    return Evidence(_above(LOCAL[0], CHAIN, factor), within=(-0.02, 0.02), given=_given(CHAIN, 0.9))


@claim(MATCHES.format("weights"), source="ours", broken=FROZEN, reason="0.3 points less, and eight seeds leave two")
def matches_backpropagation_in_weights(factor=1.0):
    return Evidence(_above(LOCAL[1], CHAIN, factor), within=(-0.02, 0.02), given=_given(CHAIN, 0.9))


@claim("digits, both tuned: local losses' gradients as guesses of activations are no worse than followed as they are",
       source="ours", broken=FROZEN,
       reason="three points less: 0.903 of 0.936; what an example's guess does not point to is lost")  # fmt: skip
def projecting_pays(factor=1.0):
    return Evidence(_above(LOCAL[0], GREEDY, factor), at_least=0.0, given=_given(GREEDY, 0.8))
