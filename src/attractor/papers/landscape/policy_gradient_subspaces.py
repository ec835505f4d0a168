"""Policy gradients lie, like others, in a small space of high curvature that turns slowly while policy and data change.

```python
import jax, jax.numpy as jnp
from attractor.landscape import gradient_subspace_fraction, top_hessian_eigs

loss = lambda x: jnp.sum(x**4) + jnp.sum(x[:2] ** 2)  # of an actor or a critic, on a batch of rollouts
x = jnp.array([1.0, 0.5, 0.1, 0.1])
print(gradient_subspace_fraction(jax.grad(loss)(x), top_hessian_eigs(loss, x, 2).vectors))
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.decision import Decision
from attractor.landscape.spectrum import gradient_subspace_fraction, subspace_overlap, top_hessian_eigs
from attractor.papers.words import Evidence, cached, claim, key, mean, paired_difference, run, seeds, sizes
from attractor.problems.control import GaussianPolicy, pendulum
from attractor.rl.online.proximal_policy import PPO, clipped_losses, experience
from attractor.trees import as_vector

K, UPDATES, NETS = 12, (5, 30, 40, 60), ("actor", "critic")  # measured early, in the middle, shortly after, late
SIZES = np.array([1_218, 1_217])  # numbers of parameters
BROKEN = {"eigenvectors read by rows": {"space": 1}}


@cached
def _problem():  # the pendulum in tenths of its reward, with networks of two hidden layers of 32
    world = pendulum()

    def build(key):
        one, two = jr.split(key)
        mean, value = eqx.nn.MLP(3, 1, 32, 2, jnp.tanh, key=one), eqx.nn.MLP(3, "scalar", 32, 2, jnp.tanh, key=two)
        return GaussianPolicy(mean, jnp.zeros(1)), value

    def step(*of):
        state, reward, terminated = world.step(*of)
        return state, reward / 10, terminated

    return Decision.of_model(build, reset=world.reset, step=step, observe=world.observe, horizon=world.horizon)


@jax.jit
def _slopes_and_spaces(points, keys):
    """Per point, for actor and critic: gradient and top space, of two batches of new episodes by the same policy."""
    problem = _problem()
    unravel = as_vector(problem.init(jr.key(0)))[1]

    def measure(point):
        x, found = unravel(point[0]), []
        start = lambda key: jax.vmap(problem.start)(jr.split(key, 4))  # noqa: E731
        draw = lambda key: experience(problem, x, start(key), jr.fold_in(key, 1), 200, 0.95)[1]  # noqa: E731
        both = jax.tree.map(lambda a: a[:, ::2], jax.vmap(draw)(jr.split(point[1])))
        losses = (clipped_losses(problem, jax.tree.map(lambda a, i=i: a[i], both)) for i in (0, 1))
        for part, curved, steep in zip(x, *losses, strict=True):
            slope = as_vector(jax.grad(steep)(part))[0]
            space = top_hessian_eigs(curved, part, K, iterations=4 * K).vectors
            missing = (0, max(SIZES) - len(slope))
            found.append((jnp.pad(slope, missing), jnp.pad(space, (missing, (0, 0)))))
        return jax.tree.map(lambda *a: jnp.stack(a), *found)

    return jax.lax.map(measure, (points, keys))


@cached
def _measured(scale):
    """Arrays (seed, update, actor or critic, top or misread, …): shares and spaces; and mean returns (seed, record)."""
    n = len(drawn := seeds(**sizes(scale, n=(16, 64))))
    recorded = {"x": lambda problem, x, key: as_vector(x)[0], "return": _problem().probes["return"]}
    how = {"steps": UPDATES[-1], "every": 5, "seeds": drawn, "lanes": n, "probes": recorded}
    trace = run(_problem(), PPO(2e-3, gamma=0.95), **how)
    points = trace["x"].values[0][:, np.array(UPDATES) // 5].reshape(n * len(UPDATES), -1)
    found = _slopes_and_spaces(points, jr.split(key(1), len(points)))
    slopes, top = (np.asarray(a).reshape(n, len(UPDATES), *a.shape[1:]) for a in found)
    rows = np.linalg.qr(top.reshape(*top.shape[:3], K, -1).swapaxes(-1, -2))[0]  # as if the array were (K, parameters)
    spaces = np.stack([top, rows], 3)
    share = jax.jit(jnp.vectorize(gradient_subspace_fraction, signature="(p),(p,k)->()"))
    return np.asarray(share(slopes[..., None, :], spaces)), spaces, trace["return"].values[0]


def _evidence(cases, at_least, scale, note=""):
    returns = _measured(scale)[2]
    given = {"the pendulum is learned": returns[:, -2:].mean() > returns[:, 0].mean() / 2}
    return Evidence.of_cases(cases, at_least=at_least, given=given, note=note)


@claim("pendulum, PPO: 12 of 1,200 Hessian eigenvectors hold 10 times their share of actor's and critic's gradients",
       source="ours", broken=BROKEN)  # fmt: skip
def gradients_lie_in_the_top_space(space=0, *, scale):
    held = _measured(scale)[0][..., space] * SIZES / K
    each = {f"{net}, update {UPDATES[i]}": mean(held[:, i, j]) for j, net in enumerate(NETS) for i in (0, 1, 3)}
    return _evidence(each, 10.0, scale)


@claim("pendulum, PPO: the top 12 of 1,200 Hessian eigenvectors hold 70 % of the critic's gradient, updates 5, 30, 60",
       source="ours", broken=BROKEN)  # fmt: skip
def critic_gradients_are_nearly_inside(space=0, *, scale):
    held = _measured(scale)[0][:, :, 1, space]
    return _evidence({f"update {UPDATES[i]}": mean(held[:, i]) for i in (0, 1, 3)}, 0.7, scale)


@claim("pendulum, PPO: more of the critic's gradient than of the actor's lies in its top space, mean of 3 updates",
       source="scaled", broken={"the two exchanged": {"sign": -1}})  # fmt: skip
def critic_has_more_than_the_actor(sign=1, *, scale):
    actor, critic = sign * _measured(scale)[0][..., 0][:, [0, 1, 3]].mean(1).T
    return _evidence({"critic less actor": paired_difference(critic, actor)}, 0.0, scale)


def _overlaps(scale, late, space=0, other=0):
    """Of top spaces at update 30 and spaces later, perhaps of another run or misread ones: (actor or critic, seed)."""
    found = _measured(scale)[1]
    first, later = found[:, 1, :, 0], np.roll(found[:, late, :, space], other, 0)
    return np.asarray(jax.jit(jnp.vectorize(subspace_overlap, signature="(p,k),(p,k)->()"))(first, later)).T


@claim("pendulum, PPO: top spaces of updates 30 and 40 overlap 5 times as much as random ones, actor's and critic's",
       source="ours", broken=BROKEN)  # fmt: skip
def spaces_turn_slowly(space=0, *, scale):
    """Spaces of two runs are no measure of chance: their large entries are in the same layers."""
    ours, others = (_overlaps(scale, 2, space, other) * SIZES[:, None] / K for other in (0, 1))
    note = "of two runs: {:.1f} and {:.1f} times".format(*others.mean(1))
    return _evidence(dict(zip(NETS, map(mean, ours), strict=True)), 5.0, scale, note)


@claim("pendulum, PPO: top spaces 10 updates apart overlap more than those 30 apart, actor's and critic's",
       source="scaled", broken={"the nearer of another run": {"other": 1}},
       reason="the critic's do; the actor's overlap about as much 30 updates apart")  # fmt: skip
def spaces_do_turn(other=0, *, scale):
    pairs = zip(_overlaps(scale, 2, other=other), _overlaps(scale, 3), strict=True)
    return _evidence(dict(zip(NETS, (paired_difference(*pair) for pair in pairs), strict=True)), 0.0, scale)
