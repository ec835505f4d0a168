"""Feedback alignment: the output's error goes straight to every layer, through fixed random matrices."""

from collections.abc import Sequence

import jax
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.credit.forward import Estimator
from attractor.credit.layered import LayeredGradient, LayeredLoss, local_gradient, plain
from attractor.registry import LogUniform, method


def feedback_matrices(
    key: PRNGKeyArray, units: Sequence[int], outputs: int, shared: bool = False
) -> list[Float[Array, "units outputs"]]:
    r"""Random matrices that bring the error from the outputs to the units of every layer.

    Entries are $\mathcal N(0, 1/\text{outputs})$, so that a signal is as large as the error, in root mean square.

    Arguments:
        key: Draws them.
        units: How many units each layer has, at least 1.
        outputs: How many numbers the network's output has, at least 1.
        shared: Whether the layers take the first rows of one matrix, which is as tall as the widest of them.

    Raises:
        ValueError: if a number is below 1.

    Paper: Principled Training of Neural Networks with Direct Feedback Alignment.
    """
    in_range("outputs", outputs, 1)
    in_range("units", np.asarray(units), 1)
    keys = [key] * len(units) if shared else jr.split(key, len(units))
    rows = [max(units) if shared else n for n in units]
    return [jr.normal(k, (r, outputs))[:n] / outputs**0.5 for k, r, n in zip(keys, rows, units, strict=True)]


def direct_feedback(seed: int = 0, shared: bool = False, feedback: Sequence[Array] | None = None) -> Estimator:
    r"""Direct feedback alignment: in place of the chain of derivatives, the error times a fixed random matrix.

    With $e = \partial \ell / \partial \text{output}$ of every example, the outputs $h_i = f(a_i)$ of the hidden units
    of layer i get the signal $B_i e$, which is $(B_i e) \odot f'(a_i)$ at their inputs. The layers after the last unit
    get their true gradient.

    Arguments:
        seed: Draws the matrices, the same ones at every step.
        shared: As in `feedback_matrices`.
        feedback: The matrices, ``(units, outputs)`` for every layer of units, in place of drawn ones.

    Returns:
        ``(loss: LayeredLoss, params, key) -> (value, estimate)``.

    Raises:
        ValueError: at the call, if the shapes of ``feedback`` are not those of the network's layers.

    Paper: Principled Training of Neural Networks with Direct Feedback Alignment.
    """

    def estimate(loss: LayeredLoss, params: PyTree, key: PRNGKeyArray) -> tuple[Array, PyTree]:
        inputs, targets = loss.batch
        units = [int(np.prod(shape)) for shape in loss.units(params)]
        outputs = jax.eval_shape(lambda p, x: loss.network(p, x[0], plain), params, inputs).size
        matrices = feedback_matrices(jr.key(seed), units, outputs, shared) if feedback is None else list(feedback)
        if [m.shape for m in matrices] != [(n, outputs) for n in units]:
            expected = ", ".join(f"({n}, {outputs})" for n in units)
            raise ValueError(f"feedback: expected matrices {expected}, got {', '.join(str(m.shape) for m in matrices)}")

        def assign(losses: Array, out: Array, values: list[Array]) -> list[Array]:
            error = jax.vmap(jax.grad(loss.criterion))(out, targets).reshape(len(losses), -1)
            return [(error @ m.astype(error.dtype).T).reshape(v.shape) for m, v in zip(matrices, values, strict=True)]

        return local_gradient(loss, params, assign, after=True)

    return estimate  # pyright: ignore[reportReturnType]


@method(
    "direct-feedback-descent",
    {"learning_rate": LogUniform(1e-4, 0.1)},
    paper="dfa-alignment-practices",
    bad={"learning_rate": -1.0},
)
def direct_feedback_descent(learning_rate: optax.ScalarOrSchedule, seed: int = 0) -> LayeredGradient:
    r"""Adam with the signals of `direct_feedback`: no backward pass through the network.

    $\theta_{t+1} = \theta_t - \text{Adam}(\hat g_t)$.

    Arguments:
        learning_rate: At least 0, or an optax schedule.
        seed: Of the feedback matrices.

    Raises:
        ValueError: if ``learning_rate`` is negative.

    Paper: Principled Training of Neural Networks with Direct Feedback Alignment.
    """
    in_range("learning_rate", learning_rate, 0.0)
    return LayeredGradient(optax.adam(learning_rate), direct_feedback(seed))
