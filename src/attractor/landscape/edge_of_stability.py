"""Training where the loss is too sharp for the step: models of it that can be solved, and the flow of its average."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import Scalar, in_range

NEWTON = 60  # iterations at most; quadratic convergence needs five to ten


class QuadraticRegression(eqx.Module):
    r"""Residuals that are quadratic in the parameters, $z(\theta) = z_0 + G\theta + \frac12 Q(\theta, \theta)$.

    It is the least model whose tangent kernel $J J^\top$ moves. Gradient descent on $\frac12 |z|^2$ closes in the
    outputs: see `step`.

    Arguments:
        offset: $z_0$, residuals at zero.
        linear: G.
        curvature: Q, one matrix for each of n outputs; only its symmetric part counts.

    Raises:
        ValueError: if the shapes do not fit.

    Paper: Second-order regression models exhibit progressive sharpening to the edge of stability.
    """

    offset: Float[Array, " n"]
    linear: Float[Array, "n p"]
    curvature: Float[Array, "n p p"]

    def __check_init__(self) -> None:
        n, p = np.shape(self.linear)
        if np.shape(self.offset) != (n,) or np.shape(self.curvature) != (n, p, p):
            shapes = f"{np.shape(self.offset)} and {np.shape(self.curvature)}"
            raise ValueError(f"offset, curvature: expected shapes {(n,)} and {(n, p, p)}, got {shapes}")

    def residuals(self, params: Float[Array, " p"]) -> Float[Array, " n"]:
        r"""$z(\theta)$."""
        return self.offset + self.linear @ params + params @ (self.curvature @ params).T / 2

    def jacobian(self, params: Float[Array, " p"]) -> Float[Array, "n p"]:
        r"""$J = G + Q\theta$."""
        return self.linear + self._applied(params)

    def step(
        self, residuals: Float[Array, " n"], jacobian: Float[Array, "n p"], learning_rate: Scalar
    ) -> tuple[Float[Array, " n"], Float[Array, "n p"]]:
        r"""One step of gradient descent on $\frac12 |z|^2$, in residuals and Jacobian, without the parameters.

        With $g = J^\top z$: $z' = z - \eta J g + \frac{\eta^2}{2} Q(g, g)$ and $J' = J - \eta\, Q g$, both exact.

        Arguments:
            residuals: z.
            jacobian: J.
            learning_rate: $\eta$, in (0, inf).

        Raises:
            ValueError: if ``learning_rate`` is out of range.
        """
        in_range("learning_rate", learning_rate, 0.0, open_low=True)
        gradient = residuals @ jacobian
        bent = self._applied(gradient)
        moved = residuals - learning_rate * jacobian @ gradient + learning_rate**2 / 2 * bent @ gradient
        return moved, jacobian - learning_rate * bent

    def _applied(self, vector: Array) -> Array:
        return ((self.curvature + self.curvature.mT) / 2) @ vector  # loops form the sum once


def scalar_network_loss(weights: Float[Array, " depth"], target: Scalar = 1.0) -> Float[Array, ""]:
    r"""The squared error of a deep network with one unit a layer, $\frac12 (\prod_i w_i - y)^2$.

    Arguments:
        weights: One a layer.
        target: y.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    return (jnp.prod(weights) - target) ** 2 / 2


def scalar_network_flow_solution(weights: Float[Array, " depth"], target: Scalar = 1.0) -> Float[Array, " depth"]:
    r"""Where gradient flow on `scalar_network_loss` ends.

    The flow keeps all $w_i^2 - w_j^2$, so the end is $s_i = \pm\sqrt{w_i^2 + c}$ with the one c for which the product
    is y. Newton's method finds $\log(\min_i w_i^2 + c)$, in which the equation is convex, from any start.

    Arguments:
        weights: At least one; their product must have the sign of ``target``, or else the result is NaN (the flow may
            then end at a saddle).
        target: y > 0.

    Raises:
        ValueError: if ``target`` is out of range.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    in_range("target", target, 0.0, open_low=True)
    squares = weights**2
    above, goal = squares - squares.min(), 2 * jnp.log(jnp.asarray(target, weights.dtype))
    near = 8 * jnp.finfo(weights.dtype).eps

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        x, moved, count = state
        return (jnp.abs(moved) > near * jnp.maximum(1, jnp.abs(x))) & (count < NEWTON)

    def newton(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, _, count = state
        ends = jnp.exp(x) + above
        move = (goal - jnp.sum(jnp.log(ends))) / jnp.sum(jnp.exp(x) / ends)
        return x + move, move, count + 1

    start = jnp.log(jnp.maximum(squares.min(), jnp.finfo(weights.dtype).tiny))
    x, _, _ = jax.lax.while_loop(unfinished, newton, (start, jnp.ones_like(start), jnp.zeros((), jnp.int32)))
    return jnp.where(jnp.prod(jnp.sign(weights)) > 0, jnp.sign(weights) * jnp.sqrt(jnp.exp(x) + above), jnp.nan)


def scalar_network_flow_sharpness(weights: Float[Array, " depth"], target: Scalar = 1.0) -> Float[Array, ""]:
    r"""The sharpness where gradient flow would end, $y^2 \sum_i s_i^{-2}$, s as in `scalar_network_flow_solution`.

    The Hessian there is $g g^\top$ with $g_i = y / s_i$. Gradient descent does not raise it, even where the loss
    oscillates.

    Arguments:
        weights: As for `scalar_network_flow_solution`.
        target: y > 0.

    Raises:
        ValueError: if ``target`` is out of range.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    return target**2 * jnp.sum(scalar_network_flow_solution(weights, target) ** -2.0)


def squared_regression_flow_sharpness(
    u: Float[Array, " d"], v: Float[Array, " d"], inputs: Float[Array, "n d"], labels: Float[Array, " n"]
) -> Float[Array, ""]:
    r"""The sharpness where gradient flow ends on $\frac{1}{2n} |X(u^2 - v^2) - y|^2$, a diagonal linear network.

    The flow only moves along $u e^{-\xi}, v e^{\xi}$ with $\xi = X^\top\nu$. The n numbers $\nu$ at which the labels
    are fitted minimize a convex function; Newton's method finds them, with steps that change no $\xi$ by more than 1.
    The top eigenvalue there is that of $\frac4n X \operatorname{diag}(u^2 + v^2) X^\top$.

    Arguments:
        u: No entry may be zero where v's is, too.
        v: As u.
        inputs: X, of full rank, n <= d.
        labels: y.

    Raises:
        ValueError: if there are more inputs than dimensions.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    n, d = inputs.shape
    if n > d:
        raise ValueError(f"inputs: expected at most d = {d} of them, got {n}")
    near = 8 * jnp.finfo(u.dtype).eps

    def parts(nu: Array) -> tuple[Array, Array]:
        xi = nu @ inputs
        return u**2 * jnp.exp(-2 * xi), v**2 * jnp.exp(2 * xi)

    def newton(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        nu, _, count = state
        plus, minus = parts(nu)
        hessian = 2 * (inputs * (plus + minus)) @ inputs.T
        move = jnp.linalg.solve(hessian, inputs @ (plus - minus) - labels)
        moved = jnp.abs(move @ inputs).max()
        return nu + move / jnp.maximum(1, moved), moved, count + 1

    start = jnp.zeros(n, u.dtype), jnp.ones((), u.dtype), jnp.zeros((), jnp.int32)
    nu, _, _ = jax.lax.while_loop(lambda state: (state[1] > near) & (state[2] < NEWTON), newton, start)
    return jnp.linalg.eigvalsh(4 / n * (inputs * sum(parts(nu))) @ inputs.T)[-1]


def oscillation_covariance(
    slack: Float[Array, "k k"], response: Float[Array, "k k k k"], start: Float[Array, "k k"], iterations: int = 20
) -> Float[Array, "k k"]:
    r"""The X that solves $X \succeq 0$, $S_0 + K[X] \succeq 0$, $\langle X, S_0 + K[X] \rangle = 0$.

    These are the conditions of optimality of $\min_{X \succeq 0} \frac12 \langle X, K[X] \rangle + \langle S_0, X
    \rangle$, which is solved by accelerated projected gradients. For k = 1: $X = \max(0, -S_0 / K)$.

    Arguments:
        slack: $S_0$, symmetric: how far below the edge each direction would be without oscillations.
        response: K, symmetric and positive semidefinite, $K[X]_{ab} = \sum_{cd} K_{abcd} X_{cd}$.
        start: Of the iteration, such as the last step's solution.
        iterations: At least 1.

    Raises:
        ValueError: if ``iterations < 1``.

    Paper: Understanding Optimization in Deep Learning with Central Flows.
    """
    in_range("iterations", iterations, 1.0)
    k = len(slack)
    if k == 1:
        some = response[0, 0] > 0
        return jnp.where(some, jnp.maximum(0, -slack / jnp.where(some, response[0, 0], 1)), 0)
    size = jnp.linalg.norm(response.reshape(k * k, k * k))

    def projected(x: Array, _: Array) -> Array:
        values, vectors = jnp.linalg.eigh(x)
        return (vectors * jnp.maximum(values, 0)) @ vectors.T

    def improve(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        x, ahead = state
        descent = slack + jnp.einsum("abcd,cd->ab", response, ahead)
        new = projected(ahead - descent / jnp.where(size > 0, size, 1), i)
        return new, new + i / (i + 3) * (new - x)

    return jax.lax.fori_loop(0, iterations, improve, (start, start))[0]


class CentralState(NamedTuple):
    r"""Where a `CentralFlow` is.

    Attributes:
        params: w, the average of the iterates.
        moment: $\nu$, the average of squared gradients; ones where it is not used.
        basis: Orthonormal columns, estimates of the top eigenvectors of $P^{-1/2} H P^{-1/2}$.
        values: Their eigenvalues; the edge is at 2.
        covariance: X, of the oscillations along the columns of $P^{-1/2}$ basis.
        excess: $\frac12 \langle \Sigma, H \rangle$, by which the oscillations raise the mean loss.
    """

    params: Float[Array, " p"]
    moment: Float[Array, " p"]
    basis: Float[Array, "p k"]
    values: Float[Array, " k"]
    covariance: Float[Array, "k k"]
    excess: Float[Array, ""]


class CentralFlow(eqx.Module):
    r"""The flow of the average of gradient descent's or RMSProp's iterates, through the edge of stability.

    With the preconditioner P, $1/\eta$ for gradient descent and $\operatorname{diag}(\sqrt\nu) / \eta$ for RMSProp,
    and the covariance $\Sigma$ of the oscillations, in time that counts steps:
    $$ \dot w = -P^{-1} \bigl[\nabla L + \tfrac12 \nabla_w \langle \Sigma, H(w) \rangle\bigr], \qquad
    \dot\nu = \tfrac{1 - \beta_2}{\beta_2} \bigl[\nabla L^2 + \operatorname{diag}(H \Sigma H) - \nu\bigr] $$
    $\Sigma$ lives on the directions where $P^{-1} H$ is at 2, and is the one that keeps it there; see
    `oscillation_covariance`. Only the top ``directions`` can oscillate. They are followed by orthogonal iteration, warm
    from step to step, so that products with H suffice; it finds eigenvalues of large magnitude, so none below -2 may be
    in the way.

    Arguments:
        loss: ``w -> L``, of one vector.
        learning_rate: $\eta$, in (0, inf).
        decay: $\beta_2$ of RMSProp, in (0, 1); default: gradient descent.
        directions: k, at least 1.
        iterations: Of the orthogonal iteration, in every step, at least 1.
        push: Factor of $\frac12 \nabla \langle \Sigma, H \rangle$ and …
        felt: … of $\operatorname{diag}(H \Sigma H)$, both for ablations.
        active: 0 turns the oscillations off, which gives the (preconditioned) gradient flow.

    Raises:
        ValueError: if a number is out of range.

    Paper: Understanding Optimization in Deep Learning with Central Flows.
    """

    loss: Callable[[Array], Array]
    learning_rate: Scalar
    decay: Scalar | None = None
    directions: int = eqx.field(static=True, default=1)
    iterations: int = eqx.field(static=True, default=2)
    push: Scalar = 1.0
    felt: Scalar = 1.0
    active: Scalar = 1.0

    def __check_init__(self) -> None:
        in_range("learning_rate", self.learning_rate, 0.0, open_low=True)
        in_range("directions", self.directions, 1.0)
        in_range("iterations", self.iterations, 1.0)
        if self.decay is not None:
            in_range("decay", self.decay, 0.0, 1.0, open_low=True, open_high=True)

    def preconditioner(self, moment: Float[Array, " p"]) -> Float[Array, " p"]:
        """The diagonal of P."""
        return (jnp.ones_like(moment) if self.decay is None else jnp.sqrt(moment)) / self.learning_rate

    def init(self, params: Float[Array, " p"], moment: Float[Array, " p"] | None = None) -> CentralState:
        """A state in which nothing oscillates yet.

        Arguments:
            params: w.
            moment: As the optimizer has it; default: ones.
        """
        k = self.directions
        moment = jnp.ones_like(params) if moment is None else moment
        wave = jnp.cos(jnp.arange(params.size)[:, None] * jnp.arange(1, k + 1) * 0.7 + 0.3).astype(params.dtype)
        zeros = jnp.zeros(k, params.dtype), jnp.zeros((k, k), params.dtype), jnp.zeros((), params.dtype)
        state = CentralState(params, moment, jnp.linalg.qr(wave)[0], *zeros)
        return jax.lax.fori_loop(0, 50, lambda _, s: s._replace(basis=self._followed(s)[0]), state)

    def step(self, state: CentralState, time: Scalar) -> CentralState:
        """An Euler step.

        Arguments:
            state: From `init`.
            time: In optimizer steps; 1/4 or less, as 1 would itself oscillate at the edge.
        """
        w, p = state.params, self.preconditioner(state.moment)
        basis, values, rotation = self._followed(state)
        u = basis / jnp.sqrt(p)[:, None]
        gradient = jax.grad(self.loss)(w)
        bends = self._bends(w, u)
        memory = 0.0 if self.decay is None else (1 - self.decay) / self.decay * time
        waves = jnp.einsum("pa,pb->abp", p[:, None] * u * values, p[:, None] * u * values)  # H u_a (H u_b)'
        growth = self.learning_rate**-2.0 / p  # of 2 P with the moment

        def slack(shift: Array, moved: Array) -> Array:
            return jnp.einsum("pa,pb,...p->...ab", u, u, growth * moved) - jnp.einsum("abp,...p->...ab", bends, shift)

        shift, moved = -time * gradient / p, memory * (gradient**2 - state.moment)
        shifts, waves = -time * self.push * bends / (2 * p), memory * self.felt * waves
        start = rotation.T @ state.covariance @ rotation
        still = 2 * jnp.eye(len(values)) - jnp.diag(values) + slack(shift, moved)
        x = self.active * oscillation_covariance(still, jnp.einsum("cdab->abcd", slack(shifts, waves)), start)
        return CentralState(
            w + shift + jnp.einsum("ab,abp->p", x, shifts),
            state.moment + moved + jnp.einsum("ab,abp->p", x, waves),
            basis,
            values,
            x,
            jnp.trace(x * values) / 2,
        )

    def _followed(self, state: CentralState) -> tuple[Array, Array, Array]:
        """The basis of the top eigenvectors, their eigenvalues, and the last basis in terms of the new one."""
        root = jnp.sqrt(self.preconditioner(state.moment))[:, None]
        _, push = jax.linearize(jax.grad(self.loss), state.params)

        def product(y: Array) -> Array:
            return jax.vmap(push, 1, 1)(y / root) / root

        basis = state.basis
        for _ in range(self.iterations):
            basis = jnp.linalg.qr(product(basis))[0]
        small = basis.T @ product(basis)
        values, turned = jnp.linalg.eigh((small + small.T) / 2)
        basis = basis @ turned[:, ::-1]
        return basis, values[::-1], state.basis.T @ basis

    def _bends(self, w: Array, u: Array) -> Array:
        """All gradients of u_a' H(w) u_b, ``(k, k, p)``."""

        def bent(a: Array, b: Array) -> Array:
            def curvature(w: Array) -> Array:
                return jax.jvp(lambda x: jax.jvp(self.loss, (x,), (a,))[1], (w,), (b,))[1]

            return jax.grad(curvature)(w)

        return jax.vmap(lambda a: jax.vmap(lambda b: bent(a, b))(u.T))(u.T)
