"""AdEMAMix: Adam that also follows a very slow average of old gradients.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import half_life_schedule

steps = 1_000  # both warm-ups last for the whole run; optax keeps the optimizer itself
optimizer = optax.contrib.ademamix(
    1e-2, b3=half_life_schedule(0.9, 0.999, steps), alpha=optax.linear_schedule(0.0, 5.0, steps)
)
w = jnp.zeros(3)
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(lambda w: jnp.sum((w - 3.0) ** 2))(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(steps):
    w, state = step(w, state)
print(w)  # near 3, 3, 3
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.comparison import compare
from attractor.optim.adaptive import half_life_schedule
from attractor.papers import Evidence, claim
from attractor.probe import Probe
from attractor.problem import Minimization
from attractor.registry import LogUniform
from attractor.stats import bootstrap, paired_ratio

SLUG = "ademamix"
SPACE = {"learning_rate": LogUniform(3e-4, 3e-2)}
DECAY, VOCABULARY, CONTEXT = 0.01, 16, 2


def _linear_decay(start, end, steps):
    """The decay itself grows linearly."""
    return optax.linear_schedule(start, end, steps)


def _next_token(model, batch):
    contexts, tokens = batch
    logits = jax.vmap(model)(jax.nn.one_hot(contexts, VOCABULARY).reshape(len(contexts), -1))
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()


@functools.cache
def _text():
    """Contexts and next tokens of a random second-order Markov chain: ``(train, test)``."""
    rng, size = np.random.default_rng(0), 50_000
    cumulative = rng.dirichlet(np.full(VOCABULARY, 0.3), (VOCABULARY, VOCABULARY)).cumsum(-1)
    text, draws = [0, 0], rng.random(size)
    for u in draws:
        text.append(min(int(np.searchsorted(cumulative[text[-2], text[-1]], u)), VOCABULARY - 1))
    contexts = np.lib.stride_tricks.sliding_window_view(np.asarray(text[:-1], np.int32), CONTEXT)
    tokens, cut = np.asarray(text[CONTEXT:], np.int32), size - 1_024
    return (contexts[:cut], tokens[:cut]), (contexts[cut:], tokens[cut:])


@functools.cache
def _language():
    """A small network learns to predict the next token, 16 at a time."""
    train, test = _text()
    problem = Minimization.of_model(
        lambda key: eqx.nn.MLP(CONTEXT * VOCABULARY, VOCABULARY, 32, 1, key=key), _next_token, train, batch_size=16
    )
    return eqx.tree_at(lambda p: p.probes, problem, {"test_loss": Probe.on(test, problem.loss)})


def _ademamix(learning_rate, steps, alpha=5.0, b3=0.999):
    return optax.contrib.ademamix(
        learning_rate,
        b3=half_life_schedule(0.9, b3, steps),
        alpha=optax.linear_schedule(0.0, alpha, steps),
        weight_decay=DECAY,
    )


def _adamw(learning_rate, steps):
    return optax.adamw(learning_rate, weight_decay=DECAY)


NO_SLOW_AVERAGE = {"no slow average": {"ademamix": functools.partial(_ademamix, alpha=0.0)}}


@claim(
    SLUG,
    "the half-life of the slow average grows linearly from that of 0.9 to that of 0.9999 (relative error at most 1e-9)",
    broken={"the decay grows linearly": {"schedule": _linear_decay}},
)
def grows_the_half_life_linearly(schedule=half_life_schedule, *, scale):
    steps, ends = 1_000, np.log(0.5) / np.log([0.9, 0.9999])
    with jax.enable_x64(True):
        decays = np.asarray(jax.vmap(schedule(0.9, 0.9999, steps))(jnp.arange(steps + 1)))
    expected = np.linspace(ends[0], ends[1], steps + 1)
    return Evidence(float(np.max(np.abs(np.log(0.5) / np.log(decays) / expected - 1))), at_most=1e-9)


@functools.cache
def _tuned(method, scale):
    steps, (seeds, budget) = 4_000, (8, 8) if scale == "quick" else (32, 16)

    def with_cosine(learning_rate):
        return method(optax.cosine_decay_schedule(learning_rate, steps), steps)

    methods = {"it": (with_cosine, SPACE)}
    return compare(_language(), methods, steps=steps, every=100, seeds=seeds, budget=budget)["it"]


@claim(
    SLUG,
    "Markov text, small batches, both tuned, cosine schedule: reaches AdamW's final test loss in at most 0.95 of its "
    "steps",
    broken=NO_SLOW_AVERAGE,
)
def reaches_the_loss_of_adamw_sooner(ademamix=_ademamix, *, scale):
    ours, baseline = _tuned(ademamix, scale), _tuned(_adamw, scale)
    curves, at = ours.trace["test_loss"].values[0], ours.trace.dataset["step"].values
    reached = curves <= baseline.final[:, None]
    steps = np.where(reached.any(1), at[reached.argmax(1)], np.inf)
    note = f"final test loss {ours.final.mean():.4f} against {baseline.final.mean():.4f}"
    return Evidence(paired_ratio(steps, np.full(len(steps), at[-1])), at_most=0.95, note=note)


@functools.cache
def _memory(method, seeds, injected=2_000, after=1_000):
    """What one extra batch, shown once, gains on itself: at its peak (of the mean over seeds), and at the end."""
    problem, optimizer = _language(), method(1e-3, injected)  # warm-ups are over when the batch is shown

    def gain(seed):
        key = jr.key(seed)

        def step(carry, t, batch=None):
            x, state = carry
            batch = problem.sample(jr.fold_in(key, t)) if batch is None else batch
            updates, state = optimizer.update(jax.grad(problem.loss)(x, batch), state, x)
            return (optax.apply_updates(x, updates), state), None

        def losses(carry):
            at = jnp.arange(injected + 1, injected + after)
            return jax.lax.scan(lambda c, t: (step(c, t)[0], problem.loss(c[0], shown)), carry, at)[1]

        shown, x = problem.sample(jr.fold_in(key, injected + after)), problem.init(key)
        carry, _ = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(injected))
        return losses(step(carry, injected)[0]) - losses(step(carry, injected, shown)[0])

    gains = np.asarray(jax.jit(jax.vmap(gain))(jnp.arange(seeds)))
    return gains[:, gains.mean(0).argmax()], gains[:, -1]


@claim(
    SLUG,
    "a batch shown once: 1,000 steps later a share of its largest gain is left that is 0.01 larger than with AdamW",
    broken=NO_SLOW_AVERAGE,
)
def forgets_more_slowly(ademamix=_ademamix, *, scale):
    seeds = 16 if scale == "quick" else 256
    ours, baseline = _memory(ademamix, seeds), _memory(_adamw, seeds)
    shares = bootstrap(lambda a, b, c, d: b.mean(-1) / a.mean(-1) - d.mean(-1) / c.mean(-1), *ours, *baseline)
    note = f"left: {ours[1].mean() / ours[0].mean():.2f} against {baseline[1].mean() / baseline[0].mean():.2f}"
    return Evidence(shares, at_least=0.01, note=note)
