"""Second-order conditions against closed forms and a rank-revealing NumPy version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import null_space

from attractor.games import local_minimax_curvatures
from attractor.problems import degenerate_minimax, minimax_quadratic


def reference(a, c, b):
    kernel = null_space(b, rcond=1e-9)
    allowed = null_space(kernel.T @ c.T, rcond=1e-9) if kernel.size else np.eye(len(a))
    restricted = allowed.T @ (a - c @ np.linalg.pinv(b, rcond=1e-9) @ c.T) @ allowed
    return np.linalg.eigvalsh(b)[-1], np.linalg.eigvalsh(restricted)[0] if restricted.size else np.inf


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("n", [2, 4])
def test_matches_a_rank_revealing_version(rank, n):
    rng = np.random.default_rng(10 * rank + n)
    a, c, root = rng.normal(size=(n, n)), rng.normal(size=(n, 3)), rng.normal(size=(3, rank))
    a, b = a + a.T, -root @ root.T
    with jax.enable_x64(True):
        game = minimax_quadratic(a, c, b)
        ours = jax.jit(lambda z: local_minimax_curvatures(game.payoff, *z, tolerance=1e-9))(game.solution)
    np.testing.assert_allclose(ours, reference(a, c, b), rtol=1e-8, atol=1e-10)


def test_nothing_is_asked_of_x_at_the_degenerate_point():
    game = degenerate_minimax()
    curvatures = local_minimax_curvatures(game.payoff, *game.solution)
    assert curvatures.maximizer == 0
    assert jnp.isinf(curvatures.minimizer)


def test_pytrees_and_a_curved_payoff():
    # max over y of -y² + 2 y sin(x) - x²/2 is sin²x - x²/2, whose curvature at 0 is 2 - 1.
    def payoff(x, y):
        return -(y["v"] ** 2) + 2 * y["v"] * jnp.sin(x["u"]) - x["u"] ** 2 / 2

    curvatures = local_minimax_curvatures(payoff, {"u": jnp.zeros(())}, {"v": jnp.zeros(())})
    np.testing.assert_allclose(curvatures, (-2.0, 1.0), atol=1e-6)


def test_bad_tolerance_is_named():
    game = degenerate_minimax()
    with pytest.raises(ValueError, match="tolerance"):
        local_minimax_curvatures(game.payoff, *game.solution, tolerance=1.0)
