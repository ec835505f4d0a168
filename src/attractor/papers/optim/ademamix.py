"""AdEMAMix: Adam that also follows a very slow average of old gradients.

```python
import jax.numpy as jnp
import optax
from attractor import Minimization, run
from attractor.optim import half_life_schedule

b3, alpha = half_life_schedule(0.9, 0.999, 1_000), optax.linear_schedule(0.0, 5.0, 1_000)  # warm up all the while
optimizer = optax.contrib.ademamix(1e-2, b3=b3, alpha=alpha)  # optax keeps the optimizer itself
problem = Minimization(lambda w: jnp.sum((w - 3.0) ** 2), init=jnp.zeros(3))
print(run(problem, optimizer, steps=1_000, every=1_000).last("loss").values)  # near 0
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.adaptive import half_life_schedule
from attractor.papers import words
from attractor.papers.words import Evidence, bootstrap, cached, claim, first_step, graded, paired_ratio, seeds, sizes
from attractor.problems.sequences import markov_text
from attractor.registry import LogUniform

STEPS = 4_000
SPACE = {"learning_rate": LogUniform(3e-4, 3e-2)}
DECAY = 0.01
SIGN = {"sign of the slow average": {"alpha": -1.0}}


def _linear_decay(start, end, steps):  # the decay itself grows linearly
    return optax.linear_schedule(start, end, steps)


@cached
def _language():
    return markov_text(words.seed())


def _ademamix(learning_rate, steps, alpha):
    return optax.contrib.ademamix(learning_rate, b3=half_life_schedule(0.9, 0.999, steps),
                                  alpha=optax.linear_schedule(0.0, alpha, steps), weight_decay=DECAY)  # fmt: skip


def _adamw(learning_rate, steps, alpha):
    return optax.adamw(learning_rate, weight_decay=DECAY)


@claim(
    "the half-life of the slow average grows linearly from that of 0.9 to that of 0.9999 (relative error at most 1e-9)",
    source="paper", broken={"the decay grows linearly": {"schedule": _linear_decay}}, deterministic=True)  # fmt: skip
def grows_the_half_life_linearly(schedule=half_life_schedule):
    steps, ends = 1_000, np.log(0.5) / np.log([0.9, 0.9999])
    with jax.enable_x64(True):
        decays = np.asarray(jax.vmap(schedule(0.9, 0.9999, steps))(jnp.arange(steps + 1)))
    expected = np.linspace(ends[0], ends[1], steps + 1)
    return Evidence(float(np.max(np.abs(np.log(0.5) / np.log(decays) / expected - 1))), at_most=1e-9)


def _with_cosine(method, alpha, learning_rate):
    return method(optax.cosine_decay_schedule(learning_rate, STEPS), STEPS, alpha)


def _tuned(method, alpha, scale):
    made = eqx.Partial(_with_cosine, method, jnp.asarray(alpha))  # one program for every alpha
    size = sizes(scale, seeds=(16, 32), budget=(8, 16), steps=STEPS, every=100)
    return words.tune(_language(), (made, SPACE), **graded(_language(), "loss"), **size)


def _steps_to_the_loss_of_adamw(alpha, scale, at_most):
    ours, baseline = _tuned(_ademamix, alpha, scale), _tuned(_adamw, 0.0, scale)
    steps = first_step(ours.trace["test_loss"].values[0], baseline.final, ours.trace.dataset["step"].values)
    given = {"AdamW learns": bool((baseline.final < baseline.trace["test_loss"].values[0, :, 0]).all())}
    note = f"final test loss {ours.final.mean():.4f} against {baseline.final.mean():.4f}"
    return Evidence(paired_ratio(steps, np.full(len(steps), STEPS)), at_most=at_most, given=given, note=note)


@claim("Markov text, small batches, tuned, cosine decay: reaches AdamW's final test loss in at most 0.95 of its steps",
       source="ours", broken=SIGN, reason="16 seeds do not decide it: "
       "half of them never get there, at a final loss of 2.264 against 2.262")  # fmt: skip
def reaches_the_loss_of_adamw_sooner(alpha=5.0, *, scale):
    return _steps_to_the_loss_of_adamw(alpha, scale, 0.95)


@claim("Markov text, small batches, tuned, cosine decay: reaches AdamW's final test loss in at most 0.51 of its steps",
       source="paper", broken=SIGN, reason="at this size half of the runs never reach it, "
       "and those that do take 0.8 of the steps or more")  # fmt: skip
def halves_the_steps_of_adamw(alpha=5.0, *, scale):
    return _steps_to_the_loss_of_adamw(alpha, scale, 0.51)


@eqx.filter_jit
def _gains(problem, method, alpha, starts):
    """What one extra batch, shown once, gains on itself in the 1,000 steps after it, ``(seeds, steps)``."""
    injected, after = 2_000, 1_000
    optimizer = method(1e-3, injected, alpha)  # warm-ups are over when the batch is shown

    def gain(start):
        key = jr.key(start)

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
        both = jax.tree.map(lambda *a: jnp.stack(a), step(carry, injected)[0], step(carry, injected, shown)[0])
        without, with_it = jax.vmap(losses)(both)
        return without - with_it

    return jax.vmap(gain)(starts)


@cached
def _memory(method, alpha, scale):
    """The gain at its peak (of the mean over seeds), and at the end."""
    starts = jnp.asarray(seeds(**sizes(scale, n=(8, 256))))
    gains = np.asarray(_gains(_language(), method, jnp.asarray(alpha), starts))
    return gains[:, gains.mean(0).argmax()], gains[:, -1]


@claim("a batch shown once: 1,000 steps later a share of its largest gain is left that is 0.01 larger than with AdamW",
       source="ours", broken=SIGN)  # fmt: skip
def forgets_more_slowly(alpha=5.0, *, scale):
    ours, baseline = _memory(_ademamix, alpha, scale), _memory(_adamw, 0.0, scale)
    shares = bootstrap(lambda a, b, c, d: b.mean(-1) / a.mean(-1) - d.mean(-1) / c.mean(-1), *ours, *baseline)
    note = f"left: {ours[1].mean() / ours[0].mean():.2f} against {baseline[1].mean() / baseline[0].mean():.2f}"
    return Evidence(shares, at_least=0.01, note=note)
