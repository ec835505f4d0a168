"""Classification under attack: what the data are, the attacked loss against NumPy, and what is right throughout."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import attack_training, box_clusters, right_throughout


def test_the_clusters_leave_a_gap_and_the_fragile_inputs_tell_the_label():
    x, y = (np.asarray(a) for a in box_clusters(300, 1, inputs=3, fragile=2, nearest=0.2))
    assert x.shape == (300, 6)
    assert np.abs(x[:, :3]).min() >= 0.2
    assert np.abs(x[:, :3]).max() <= 0.45
    np.testing.assert_array_equal(np.sign(x[:, 0] * x[:, 1]), y)
    np.testing.assert_array_equal(np.sign(x[:, 3:5]), np.stack([y, y], 1))
    assert np.abs(x[:, 3:5]).max() <= 0.07
    np.testing.assert_allclose(x[:, 5], 0.3, rtol=1e-6)
    for wrong in ({"inputs": 1}, {"nearest": 0.5}, {"fragile": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            box_clusters(5, 0, **wrong)


@pytest.mark.parametrize(("steps", "size"), [(1, 1.0), (3, 0.4)])
def test_the_loss_is_the_hinge_of_attacked_examples(steps, size):
    with jax.enable_x64(True):
        rng, decay = np.random.default_rng(0), 0.3
        x, y, box = rng.standard_normal((2, 4, 3)), rng.choice([-1.0, 1.0], (2, 4)), np.array([0.1, 0.3, 0.0])
        problem = attack_training(*map(jnp.asarray, (x, y, box)), steps, size, width=5, decay=decay)
        layers = tuple(np.asarray(w, float) for w in problem.init(jr.key(1)))
        expected = 0.0
        for hidden, output, examples, labels in zip(*layers, x, y, strict=True):
            moved = examples.copy()
            for _ in range(steps):
                active = moved @ hidden.T > 0
                value = np.maximum(moved @ hidden.T, 0) @ output
                slope = -(labels * (1 - labels * value > 0))[:, None] * ((active * output) @ hidden)
                moved = np.clip(moved + size * box * np.sign(slope), examples - box, examples + box)
            value = np.maximum(moved @ hidden.T, 0) @ output
            expected += np.maximum(0, 1 - labels * value).mean() + decay / 2 * ((hidden**2).sum() + (output**2).sum())
        assert float(problem.loss(problem.init(jr.key(1)), None)) == pytest.approx(expected, rel=1e-6)


def test_right_throughout_asks_at_every_corner_and_between():
    box, x = np.array([0.5, 0.0, 1.0]), np.random.default_rng(2).standard_normal((20, 3))
    y = np.ones(20)

    def classifier(z):
        return z[:, 0] - 2 * z[:, 2] + 0.3 * z[:, 1] + 3

    found = right_throughout(classifier, jnp.asarray(x), jnp.asarray(y), jnp.asarray(box))
    shifts = [box * s for s in itertools.product((-1, 0, 1), repeat=3)]
    np.testing.assert_array_equal(found, [all(classifier(z + s)[0] > 0 for s in shifts) for z in x[:, None]])
    assert 0 < found.sum() < 20
