"""Equilibrium propagation: gradients from how a network's fixed point moves when its outputs are nudged."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.credit.forward import Estimator, ForwardGradient
from attractor.problem import Minimization
from attractor.problems.digits import digits
from attractor.problems.held_out import halves, held_out
from attractor.registry import LogUniform, method


class EquilibriumLoss(eqx.Module):
    r"""The mean loss of a network at its fixed point; a function of the parameters, as any other loss.

    Units with inputs u and outputs $r = \varphi(u)$ settle by $u \leftarrow u + \eta (D(\theta, r, x) - u)$ from zero.
    `jax.grad` goes back through all of these steps, which at a fixed point is the exact gradient.

    Arguments:
        drive: D, ``drive(params, r, x) -> currents``, like the state r of one example; for complex r, too.
        criterion: ``criterion(params, r, y) -> scalar`` for one example.
        state: Shapes and dtypes of u and r, a pytree of arrays.
        activation: φ, analytic around the real numbers where nudges are complex.
        steps: Until it has settled, at least 1.
        rate: η, in (0, 1].
        batch: ``(inputs, targets)``, both with a leading axis of examples; or given at the call.

    Raises:
        ValueError: for an argument out of its range.
    """

    drive: Callable[[PyTree, PyTree, Array], PyTree]
    criterion: Callable[[PyTree, PyTree, Array], Array]
    state: PyTree
    activation: Callable[[Array], Array] = jnp.tanh
    steps: int = eqx.field(static=True, default=30)
    rate: float = eqx.field(static=True, default=1.0)
    batch: Any = None

    def __check_init__(self) -> None:
        in_range("steps", self.steps, 1)
        in_range("rate", self.rate, 0.0, 1.0, open_low=True)

    def at(self, batch: tuple[Array, Array]) -> "EquilibriumLoss":
        """The loss on this batch."""
        return replace(self, batch=batch)

    def outputs(self, u: PyTree) -> PyTree:
        """r, of one example."""
        return jax.tree.map(self.activation, u)

    def iterate(self, push: Callable[[PyTree], PyTree], v: PyTree) -> PyTree:
        """v ← v + η (push(v) - v), as often as it takes to settle."""

        def step(v: PyTree, _: None) -> tuple[PyTree, None]:
            return jax.tree.map(lambda a, b: (a + self.rate * (b - a)).astype(a.dtype), v, push(v)), None

        return jax.lax.scan(step, v, length=self.steps)[0]

    def settle(self, params: PyTree, x: Array) -> PyTree:
        """The fixed point's u, of one example."""
        start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), self.state)
        return self.iterate(lambda u: self.drive(params, self.outputs(u), x), start)

    def __call__(self, params: PyTree, batch: Any = None) -> Float[Array, ""]:
        def one(x: Array, y: Array) -> Array:
            return self.criterion(params, self.outputs(self.settle(params, x)), y)

        return jax.vmap(one)(*(self.batch if batch is None else batch)).mean()


def _dot(a: PyTree, b: PyTree) -> Array:
    return jnp.asarray(optax.tree.vdot(a, b))


def jacobian_asymmetry(
    field: Callable[[PyTree], PyTree], state: PyTree, key: PRNGKeyArray, probes: int = 5
) -> Float[Array, ""]:
    r"""Estimate of $\frac12 \lVert J - J^\top \rVert_F^2 = E[\lVert J v \rVert^2 - v^\top J J v]$, J a Jacobian.

    Two Jacobian-vector products per probe, none with the transpose. Zero for a field that is a gradient.

    Arguments:
        field: Of the state, a pytree of arrays, with values like it.
        state: Where.
        key: Draws v, independent normal numbers.
        probes: How many v, at least 1.

    Raises:
        ValueError: if ``probes < 1``.

    Paper: Improving equilibrium propagation without weight symmetry through Jacobian homeostasis.
    """
    in_range("probes", probes, 1)

    def product(v: PyTree) -> PyTree:
        return jax.jvp(field, (state,), (v,))[1]

    def one(key: PRNGKeyArray) -> Array:
        v = optax.tree.random_like(key, state, jr.normal)
        once = product(v)
        return _dot(once, once) - _dot(v, product(once))

    return jax.vmap(one)(jr.split(key, probes)).mean()


def equilibrium_propagation(
    beta: Scalar = 0.1, phases: int | None = None, homeostasis: Scalar = 0.0, probes: int = 5
) -> Estimator:
    r"""Equilibrium propagation: the output's error, as it arrives at every unit through the network itself.

    With $g = \partial \ell / \partial r$ at the free fixed point, $r_\beta$ settles under the current $-\beta g$, and

    $$ e = \frac{1}{N \beta} \sum_{k < N} (r_{\beta \omega^k} - r_0)\, \omega^{-k} \to \frac{dr_\beta}{d\beta},
       \quad \omega = e^{2 \pi i / N}, \qquad
       \hat g_\theta = \partial_\theta \ell - e^\top \partial_\theta D + \lambda\, \partial_\theta
       \tfrac12 \lVert J - J^\top \rVert_F^2 $$

    One phase is a one-sided nudge, two are a symmetric one; N complex ones leave a bias of order $\beta^N$, Cauchy's
    integral over a circle. The limit is $e = H^{-1} g$ with $H = J - \varphi'(u)^{-1}$ and $J = \partial_r D$, and the
    gradient takes $H^{-\top} g$: the same where J is symmetric. The last term brings J there, at the free fixed point.

    Arguments:
        beta: Size of the nudge, > 0; of no meaning without ``phases``.
        phases: N ≥ 1; `None`: the derivative itself, by linearized dynamics.
        homeostasis: λ ≥ 0.
        probes: Of `jacobian_asymmetry`, for each example, at least 1.

    Returns:
        ``(loss: EquilibriumLoss, params, key) -> (value, estimate)``.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Improving equilibrium propagation without weight symmetry through Jacobian homeostasis. Its program divides
    the penalty by the number of units.
    """
    in_range("beta", beta, 0.0, open_low=True)
    in_range("homeostasis", homeostasis, 0.0)
    in_range("probes", probes, 1)
    if phases is not None:
        in_range("phases", phases, 1)

    def response(loss: EquilibriumLoss, params: PyTree, x: Array, u: PyTree, g: PyTree) -> PyTree:
        """How r moves with the nudge."""

        def currents(u: PyTree) -> PyTree:
            return loss.drive(params, loss.outputs(u), x)

        if phases is None:
            product = jax.linearize(currents, u)[1]
            v = loss.iterate(lambda v: jax.tree.map(jnp.subtract, product(v), g), jax.tree.map(jnp.zeros_like, u))
            return jax.jvp(loss.outputs, (u,), (v,))[1]
        circle = jnp.exp(2j * jnp.pi * jnp.arange(phases) / phases)
        turns = circle if phases > 2 else circle.real

        def moved(turn: Array) -> PyTree:
            nudge = jax.tree.map(lambda a: beta * turn * a, g)
            start = jax.tree.map(lambda a: a.astype(turn.dtype), u)
            nudged = loss.iterate(lambda v: jax.tree.map(jnp.subtract, currents(v), nudge), start)
            return jax.tree.map(lambda a, b: ((a - b) / turn).real / beta, loss.outputs(nudged), loss.outputs(u))

        return jax.tree.map(lambda a, b: a.mean(0).astype(b.dtype), jax.vmap(moved)(turns), u)

    def estimate(loss: EquilibriumLoss, params: PyTree, key: PRNGKeyArray) -> tuple[Array, PyTree]:
        def one(x: Array, y: Array, key: PRNGKeyArray) -> tuple[Array, PyTree]:
            u = loss.settle(params, x)
            r = loss.outputs(u)
            value, (direct, g) = jax.value_and_grad(loss.criterion, (0, 1))(params, r, y)
            e = response(loss, params, x, u, g)

            def rest(params: PyTree) -> Array:
                errors = -_dot(e, loss.drive(params, r, x))
                if isinstance(homeostasis, float) and homeostasis == 0.0:
                    return errors
                return errors + homeostasis * jacobian_asymmetry(lambda r: loss.drive(params, r, x), r, key, probes)

            return value, jax.tree.map(jnp.add, direct, jax.grad(rest)(params))

        inputs, targets = loss.batch
        found = jax.vmap(one)(inputs, targets, jr.split(key, len(targets)))
        return jax.tree.map(lambda a: a.mean(0), found)

    return estimate  # pyright: ignore[reportReturnType]


class Equilibrium(Minimization):
    """Minimize the mean loss of a network at its fixed point: `EquilibriumLoss`.

    Arguments:
        loss: Without a batch.
        init: Starting point, as in `attractor.Minimization`.
        data: ``(inputs, targets)`` with a leading axis of N examples.
        **kwargs: As in `attractor.Minimization`.

    Raises:
        ValueError: if ``data`` is not a pair.
    """

    def __init__(self, loss: EquilibriumLoss, init: PyTree, data: Any, **kwargs: Any):
        if not (isinstance(data, tuple | list) and len(data) == 2):
            raise ValueError(f"data: expected a pair (inputs, targets), got {type(data).__name__}")
        super().__init__(loss, init, tuple(data), **kwargs)

    def at(self, batch: Any) -> EquilibriumLoss:
        """The loss on a batch, as a function of the parameters that shows its dynamics."""
        assert isinstance(self.loss, EquilibriumLoss)
        return self.loss.at(batch)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> "Equilibrium":
        """A regression with two units that see each other; see `attractor.problem.Problem.example`."""
        data = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)
        start = jnp.asarray([[0.1, 0.3], [-0.2, 0.2]], dtype)

        def drive(params: Array, r: Array, x: Array) -> Array:
            return params @ r + x.astype(dtype)

        def criterion(params: Array, r: Array, y: Array) -> Array:
            return ((r - y.astype(dtype)) ** 2).sum()

        return Equilibrium(
            EquilibriumLoss(drive, criterion, jnp.zeros(2, dtype)), start, (data, data[::-1].copy()), batch_size=4
        )


def settling_params(
    key: PRNGKeyArray, sizes: Sequence[int], symmetry: Scalar = 1.0, outputs: int = 10, gain: Scalar = 0.5
) -> PyTree:
    r"""Weights of layers that drive each other both ways, for `layers_drive`, and of a linear readout of the last one.

    Forward weights are $\mathcal N(0, \gamma^2/\text{inputs})$, γ = 1 from the network's inputs; backward ones are
    $s W^\top + \sqrt{1 - s^2}\, G$ with G as $W^\top$ but drawn apart; biases are zero; the readout's weights are
    $\mathcal N(0, 1/\text{units})$.

    Arguments:
        key: Draws them.
        sizes: The inputs, and the units of each layer; at least two numbers >= 1.
        symmetry: s, in [-1, 1].
        outputs: Of the readout, at least 1.
        gain: γ between layers, ≥ 0; from about 0.35 on, a deep network with symmetric weights need not settle at
            one point.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("gain", gain, 0.0)
    in_range("symmetry", symmetry, -1.0, 1.0)
    in_range("outputs", outputs, 1)
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes: expected at least two numbers >= 1, inputs first, got {tuple(sizes)}")
    forward, apart, backward = [], [], []
    for i, k in enumerate(jr.split(key, len(sizes) - 1)):
        shape, size = (2, sizes[i + 1], sizes[i]), 1.0 if i == 0 else gain
        w, g = size * jr.normal(k, shape) / sizes[i] ** 0.5
        forward.append((w, jnp.zeros(sizes[i + 1])))
        apart.append(g)
    for (w, _), g in zip(forward[1:], apart[1:], strict=True):
        backward.append((symmetry * w + jnp.sqrt(1 - symmetry**2) * g).T)
    readout = jr.normal(jr.fold_in(key, 1), (outputs, sizes[-1])) / sizes[-1] ** 0.5
    return {"forward": forward, "backward": backward, "readout": (readout, jnp.zeros(outputs))}


def layers_drive(params: PyTree, r: list[Array], x: Array) -> list[Array]:
    """Currents of layers that see the one before and, by weights of its own, the one after.

    Arguments:
        params: As `settling_params` makes them.
        r: The layers' outputs.
        x: The network's inputs.
    """
    below = [w @ a + b for (w, b), a in zip(params["forward"], [x, *r[:-1]], strict=True)]
    above = [w @ a for w, a in zip(params["backward"], r[1:], strict=True)]
    return [*(a + b for a, b in zip(below, above, strict=False)), below[-1]]


def readout_loss(params: PyTree, r: list[Array], y: Array) -> Array:
    """The cross-entropy of a linear readout of the last layer.

    Arguments:
        params: As `settling_params` makes them.
        r: The layers' outputs.
        y: The label.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, r), y)


def logits(params: PyTree, r: list[Array]) -> Array:
    """The linear readout of the last layer."""
    weight, bias = params["readout"]
    return weight @ r[-1] + bias


def layers_loss(sizes: Sequence[int], steps: int = 30) -> EquilibriumLoss:
    """`EquilibriumLoss` of `layers_drive` and `readout_loss`, for layers of these sizes after the inputs.

    Arguments:
        sizes: As in `settling_params`.
        steps: To settle, at a rate of 0.8; at least 1.
    """
    return EquilibriumLoss(layers_drive, readout_loss, [jnp.zeros(n) for n in sizes[1:]], steps=steps, rate=0.8)


def equilibrium_digits(
    sizes: Sequence[int] = (64, 32, 32), symmetry: float = 0.0, batch_size: int | None = 64, seed: int = 0
) -> Equilibrium:
    """Classify handwritten digits by a settling network; records loss and accuracy on validation and test images.

    Arguments:
        sizes: The 64 inputs and the units of each layer.
        symmetry: Of the first weights, as in `settling_params`.
        batch_size: Images per step; `None`: all 1,437.
        seed: Of the split, as in `attractor.problems.digits.digits`.
    """
    train, test = digits(seed=seed)
    loss = layers_loss(sizes)

    def accuracy(params: PyTree, batch: tuple[Array, Array]) -> Float[Array, ""]:
        images, labels = batch
        seen = jax.vmap(lambda x: logits(params, loss.outputs(loss.settle(params, x))))(images)
        return jnp.mean(seen.argmax(-1) == labels)

    probes = held_out(halves(test), {"loss": (loss, "min"), "accuracy": (accuracy, "max")})
    return Equilibrium(
        loss, lambda key: settling_params(key, sizes, symmetry), train, batch_size=batch_size, probes=probes
    )


class EquilibriumGradient(ForwardGradient):
    """Any optax transformation, fed by an estimator that looks at the dynamics of an `Equilibrium` problem.

    Arguments:
        transformation: What to do with the estimate, such as ``optax.adam(1e-3)``.
        estimator: ``(loss: EquilibriumLoss, params, key) -> (value, estimate)``, such as `equilibrium_propagation()`.
    """

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, problem: Equilibrium, x: PyTree, state: PyTree, key: PRNGKeyArray
    ) -> tuple[PyTree, PyTree]:
        loss = problem.at(problem.sample(key))
        of_estimate, of_update = jr.split(jr.fold_in(key, 1))
        value, grad = self.estimator(loss, x, of_estimate)
        updates, state = self.transformation.update(
            grad, state, x, value=value, grad=grad, value_fn=loss, obj_fn=loss, key=of_update
        )
        return optax.apply_updates(x, updates), state


@method(
    "equilibrium-descent",
    {"learning_rate": LogUniform(1e-4, 0.1)},
    paper="ep-jacobian-homeostasis",
    bad={"learning_rate": -1.0},
)
def equilibrium_descent(
    learning_rate: optax.ScalarOrSchedule, homeostasis: Scalar = 0.0, beta: Scalar = 0.1, phases: int | None = None
) -> EquilibriumGradient:
    r"""Adam with `equilibrium_propagation`: $\theta_{t+1} = \theta_t - \text{Adam}(\hat g_t)$.

    Arguments:
        learning_rate: At least 0, or an optax schedule.
        homeostasis: λ ≥ 0, the weight of the Jacobian's asymmetry.
        beta: Size of the nudge, > 0.
        phases: As in `equilibrium_propagation`.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Improving equilibrium propagation without weight symmetry through Jacobian homeostasis.
    """
    in_range("learning_rate", learning_rate, 0.0)
    return EquilibriumGradient(optax.adam(learning_rate), equilibrium_propagation(beta, phases, homeostasis))
