"""Which mistakes `mutants` plants, on a few lines of source."""

from pathlib import Path

from mistakes import Finder

SOURCE = '''
def update(g, state, key, learning_rate: float = 0.1):
    """Descend: x - 2 * g."""
    in_range("learning_rate", learning_rate, 0.0)
    if g is None:
        raise ValueError("g - 1")
    mu = 0.9 * state.mu + (1 - state.b**2) * g.T
    best = jnp.argmin(jnp.where(mu > 0, mu, -g))
    noise = jr.normal(jr.fold_in(key, 1)) / jnp.sqrt(len(g) - 1)
    return mu.mean(0) ** 0.5 + noise, best
'''


def changes(operator):
    return {m.after.strip() for m in Finder(Path("m.py"), SOURCE).found if m.operator == operator}


def test_plants_what_it_says_and_nothing_into_messages_defaults_or_validation():
    assert changes("factor") == {"mu = 1.8 * state.mu + (1 - state.b**2) * g.T"}
    assert changes("bias correction") == {"mu = 0.9 * state.mu + (1) * g.T"}
    assert changes("power") == {"mu = 0.9 * state.mu + (1 - state.b) * g.T"}
    assert changes("transposed") == {"mu = 0.9 * state.mu + (1 - state.b**2) * g"}
    assert changes("min for max") == {"best = jnp.argmax(jnp.where(mu > 0, mu, -g))"}
    assert changes("mask") == {
        "best = jnp.argmin(jnp.where(mu < 0, mu, -g))",
        "best = jnp.argmin(jnp.where(mu > 0, -g, mu))",
    }
    assert changes("key reused") == {"noise = jr.normal(key) / jnp.sqrt(len(g) - 1)"}
    assert changes("off by one") == {"noise = jr.normal(jr.fold_in(key, 1)) / jnp.sqrt(len(g))"}
    assert changes("axis") == {"return mu.mean(1) ** 0.5 + noise, best"}
    assert changes("root") == {
        "noise = jr.normal(jr.fold_in(key, 1)) / (len(g) - 1)",
        "return mu.mean(0) + noise, best",
    }
    assert "return state.mu.mean(0) ** 0.5 + noise, best" in changes("stale")
    assert changes("sign") == {
        "mu = 0.9 * state.mu - (1 - state.b**2) * g.T",
        "best = jnp.argmin(jnp.where(mu > 0, mu, g))",
        "return mu.mean(0) ** 0.5 - noise, best",
    }
    assert changes("constant") == set()
