"""Likelihood ratios against NumPy, with the very noise that is drawn."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from layers import INPUTS, TARGETS, loss_and_start
from scipy.stats import norm, qmc

from attractor.credit import LayeredLoss, estimator_quality, likelihood_ratio
from attractor.credit.layered import plain

WAYS = {
    "neither": {"antithetic": False, "baseline": False},
    "baseline": {"antithetic": False},
    "pairs": {"baseline": False},
    "both": {},
    "layerwise": {"layerwise": True},
    "layerwise alone": {"layerwise": True, "antithetic": False, "baseline": False},
    "sobol": {"sobol": True},
}


def by_hand(params, noise, sigma, way):
    """The estimate, example by example and copy by copy; noise ``(copies, examples, units)``."""
    copies = len(noise)
    (w1, b1), (w2, b2), (w3, b3) = [[np.asarray(a, float) for a in layer] for layer in params]
    found = [[np.zeros_like(w1), 0 * b1], [np.zeros_like(w2), 0 * b2], [np.zeros_like(w3), 0 * b3]]
    for n, (x, t) in enumerate(zip(INPUTS, TARGETS, strict=True)):
        e1, e2 = noise[:, n, :4], noise[:, n, 4:]
        h1 = np.tanh((w1 @ x + b1) + sigma * e1)
        h2 = np.tanh(h1 @ w2.T + b2 + sigma * e2)
        error = h2 @ w3.T + b3 - t
        losses = (error**2).sum(1)
        for c in range(copies):
            others = [
                d for d in range(copies) if d != c and not (way.get("antithetic", True) and abs(d - c) == copies // 2)
            ]
            reward = losses[c] - (losses[others].mean() if way.get("baseline", True) else 0.0)
            reward *= (2 if way.get("layerwise") else 1) / sigma
            parts = (reward * e1[c], x), (reward * e2[c], h1[c]), (2 * error[c], h2[c])
            for layer, (signal, seen) in zip(found, parts, strict=True):
                layer[0] += np.outer(signal, seen) / (copies * 5)
                layer[1] += signal / (copies * 5)
    return found


@pytest.mark.parametrize("name", WAYS)
def test_is_what_the_formula_says(name):
    way, key, copies, sigma = WAYS[name], jr.key(3), 8, 0.3
    with jax.enable_x64(True):
        loss, params = loss_and_start()
        estimate = likelihood_ratio(sigma, copies, **way)(loss, params, key)[1]
        drawn = copies // 2 if way.get("antithetic", True) else copies
        if name == "sobol":
            points = qmc.Sobol(10, scramble=False).random(drawn)[:, None] + np.asarray(jr.uniform(key, (5, 10)))
            noise = norm.ppf(points % 1)
        else:
            noise = np.array(jr.normal(key, (drawn, 5, 10)))
    if way.get("layerwise"):
        noise[0::2, :, 4:] = 0
        noise[1::2, :, :4] = 0
    if way.get("antithetic", True):
        noise = np.concatenate([noise, -noise])
    for a, b in zip(jax.tree.leaves(estimate), jax.tree.leaves(by_hand(params, noise, sigma, way)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_is_unbiased_for_the_smoothed_loss_of_steps():
    """One unit that jumps: the smoothed loss is known, and its gradient is that of a normal distribution's law."""

    def network(params, x, unit):
        return unit(lambda a: (a > 0).astype(a.dtype), params["w"] @ x + params["b"])

    loss = LayeredLoss(network, lambda o, t: (o - t) ** 2, (jnp.asarray(INPUTS), jnp.asarray(TARGETS[:, 0])))
    params, sigma = {"b": jnp.asarray(0.2), "w": jnp.asarray([0.5, -1.0, 0.3])}, 0.7

    def smoothed(params):
        share = jax.scipy.stats.norm.cdf((loss.batch[0] @ params["w"] + params["b"]) / sigma)
        return jnp.mean(share * (1 - loss.batch[1]) ** 2 + (1 - share) * loss.batch[1] ** 2)

    assert jax.tree.all(jax.tree.map(lambda g: jnp.all(g == 0), jax.grad(loss)(params)))
    quality = estimator_quality(likelihood_ratio(sigma, 64), loss, params, jr.key(0), 400, jax.grad(smoothed)(params))
    assert quality.bias.max() < 0.03
    assert quality.cosine.min() > 0.8
    np.testing.assert_array_equal(network(params, loss.batch[0][0], plain), (loss.batch[0][0] @ params["w"] + 0.2) > 0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"sigma": 0.0}, "sigma"), ({"copies": 1}, "copies"), ({"copies": 7}, "copies"), ({"copies": 2}, "copies")],
)
def test_refuses_what_makes_no_sense(arguments, name):
    with pytest.raises(ValueError, match=name):
        likelihood_ratio(**arguments)


def test_layerwise_copies_take_turns():
    loss, params = loss_and_start()
    with pytest.raises(ValueError, match="copies: expected a multiple of 4"):
        likelihood_ratio(copies=6, layerwise=True)(loss, params, jr.key(0))
