import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import run
from attractor.representation import Factorization, attention_resonator, bound_products, resonator, vsa_bind


def sweep(codebooks, product, x, cleanup):
    """The textbook's, one factor after another."""
    for f in range(len(x)):
        query = product * np.prod([x[g] for g in range(len(x)) if g != f], axis=0)
        x[f] = cleanup(codebooks[f], query)
    return x


def linear(codebook, query):
    return np.where(codebook @ (codebook.T @ query) < 0, -1.0, 1.0)


def attention(codebook, query, beta=8.0):
    weights = np.exp(beta * codebook.T @ query / len(query))
    mean = codebook @ weights / weights.sum()
    return mean / np.linalg.norm(mean) * np.sqrt(len(query))


@pytest.mark.parametrize(("method", "cleanup"), [(resonator(), linear), (attention_resonator(8.0), attention)])
def test_ten_sweeps_equal_a_loop_in_numpy(method, cleanup):
    # Sums of an odd number of odd numbers are never zero: no sign depends on how a processor rounds.
    problem = bound_products(codewords=15, trials=3, size=255, seed=1)
    final = run(problem, method, steps=10).final
    codebooks = np.asarray(problem.codebooks, dtype=float)
    for trial, product in enumerate(np.asarray(problem.products, dtype=float)):
        x = codebooks.sum(-1)
        x *= np.sqrt(255) / np.linalg.norm(x, axis=1, keepdims=True)
        sweeps = 0
        for _ in range(10):
            moved = sweep(codebooks, product, x.copy(), cleanup)
            if np.linalg.norm(moved - x) <= 1e-2 * np.linalg.norm(x):
                break
            x, sweeps = moved, sweeps + 1
        assert final.sweeps[0, 0, trial] == sweeps
        assert np.allclose(final.vectors[0, 0, trial], x, atol=1e-4)


def test_a_tie_counts_as_positive_at_any_scale():
    problem = bound_products(codewords=16, trials=2, size=64, seed=0)
    codebook, integers = np.asarray(problem.codebooks[0], float), np.arange(-8.0, 8.0).repeat(4)
    exact = codebook @ (codebook.T @ integers)
    assert (exact == 0).sum() >= 2
    expected = np.where(exact < 0, -1, 1)
    for scale in np.geomspace(0.01, 100, 50):
        found = resonator().cleanup(problem.codebooks[0], jnp.asarray(scale * integers, jnp.float32))
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("method", [resonator(), attention_resonator()])
def test_small_products_are_factored(method):
    random = np.random.default_rng(0)
    codebooks = random.choice(np.float32([-1, 1]), (3, 512, 6))
    chosen = random.integers(6, size=(20, 3))
    products = np.prod([codebooks[f][:, chosen[:, f]].T for f in range(3)], axis=0)
    problem = Factorization(codebooks, products)
    trace = run(problem, method, steps=50)
    found = type(trace.final)(*(part[0, 0] for part in trace.final))
    correct = (np.asarray(problem.decode(found)) == chosen).all(1)
    assert correct.mean() >= 0.95
    # Solved means the decoded product is the one given, and that is when the factors are the true ones.
    assert np.array_equal(problem.solved(found), correct)
    wrong = found._replace(vectors=jnp.roll(found.vectors, 1, axis=0))  # agrees in half of the entries
    assert np.array_equal(problem.solved(wrong), (np.roll(chosen, 1, 0) == chosen).all(1))
    assert trace.last("solved").item() == pytest.approx(correct.mean())
    assert (found.sweeps < 50).mean() >= 0.95


def test_the_sign_of_an_estimate_counts_only_on_request():
    problem = bound_products(codewords=5, trials=4, size=64)
    start = problem.init(jax.random.key(0))
    true = np.asarray(problem.decode(start))  # any indices do
    vectors = np.stack([-np.asarray(problem.codebooks)[f][:, true[:, f]].T for f in range(3)], axis=1)
    estimate = start._replace(vectors=jnp.asarray(vectors))
    assert np.array_equal(problem.decode(estimate), true)
    assert not np.array_equal(problem.decode(estimate, up_to_sign=False), true)


def test_the_seed_draws_codebooks_and_products():
    one, again, other = (bound_products(codewords=5, trials=4, size=64, seed=seed) for seed in (3, 3, 4))
    for name in ("codebooks", "products"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_binding_is_its_own_inverse():
    x, y = np.random.default_rng(0).choice(np.float32([-1, 1]), (2, 32))
    s = vsa_bind(jnp.stack([x, y]))
    assert np.array_equal(vsa_bind(jnp.stack([s, y])), x)


def test_beta_is_swept_in_one_program():
    trace = run(bound_products(trials=5, size=128), attention_resonator, steps=5, sweep={"beta": [0.1, 8.0, 200.0]})
    assert trace.hyperparameters == ["beta"]
    assert np.isfinite(trace.final.vectors).all()


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"^beta:"):
        attention_resonator(beta=0.0)
    with pytest.raises(ValueError, match=r"^codebooks, products:"):
        Factorization(np.ones((3, 8, 2), np.float32), np.ones((4, 9), np.float32))
    with pytest.raises(ValueError, match=r"^factors:"):
        bound_products(factors=1)
    with pytest.raises(ValueError, match=r"^codewords:"):
        bound_products(codewords=0)
