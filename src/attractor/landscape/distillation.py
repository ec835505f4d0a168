"""Students of teachers that know nothing: how near they start, what they minimize, what a linear probe finds."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from attractor.checks import Scalar, in_range


def near_teacher(teacher: PyTree, other: PyTree, locality: Scalar) -> PyTree:
    r"""A start for a student between its teacher and an independent draw, with weights of the same scale.

    $$ \theta = \frac{(1 - \alpha)\, \theta_T + \alpha\, \tilde\theta}{\sqrt{(1 - \alpha)^2 + \alpha^2}} $$

    The sum of two independent draws of mean zero has their variance again.

    Arguments:
        teacher: $\theta_T$, a pytree of arrays.
        other: $\tilde\theta$, of the same structure.
        locality: $\alpha$, in [0, 1]; 0 is the teacher itself, where the student's loss has no gradient.

    Raises:
        ValueError: if ``locality`` is out of range.

    Paper: Random Teachers are Good Teachers.
    """
    in_range("locality", locality, 0.0, 1.0)
    length = jnp.sqrt((1 - locality) ** 2 + locality**2)
    return jax.tree.map(lambda t, o: (((1 - locality) * t + locality * o) / length).astype(t.dtype), teacher, other)


def distillation_loss(
    student: Float[Array, "n k"], teacher: Float[Array, "n k"], temperature: Scalar = 1.0
) -> Float[Array, ""]:
    r"""How far a student's softmax is from its teacher's, $\operatorname{mean}_i \operatorname{KL}(p_i \,\|\, q_i)$.

    Here p is the softmax of the teacher's logits over the temperature and q that of the student's, and no factor of the
    square of the temperature is taken. The teacher is held fixed.

    Arguments:
        student: Logits of n inputs.
        teacher: Logits of the same inputs; no gradient flows into them.
        temperature: In (0, inf).

    Raises:
        ValueError: if ``temperature`` is out of range.

    Paper: Random Teachers are Good Teachers.
    """
    in_range("temperature", temperature, 0.0, open_low=True)
    p = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    q = jax.nn.log_softmax(student / temperature)
    return jnp.mean(jnp.sum(jnp.exp(p) * (p - q), 1))


def batch_normalized_features(weights: Sequence[Float[Array, "..."]], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    r"""What a multilayer perceptron makes of a batch: each layer is $\operatorname{ReLU}(\operatorname{norm}(x W))$.

    The norm subtracts a unit's mean over the batch and divides by $\sqrt{\operatorname{var} + 10^{-5}}$.

    Arguments:
        weights: W of each layer, ``(inputs, units)``.
        x: One input per row.
    """
    for w in weights:
        x = x @ w
        x = jax.nn.relu((x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5))
    return x


def projection_logits(params: Sequence[Float[Array, "..."]], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    """Logits of an encoder with a head as in DINO: a layer, a bottleneck of length one, and directions of length one.

    Arguments:
        params: Weights of the encoder's layers, then the head's three: of its layer (with GELU), into the bottleneck
            and of the directions, one a column.
        x: One input per row.
    """
    *encoder, layer, bottleneck, directions = params
    z = jax.nn.gelu(batch_normalized_features(encoder, x) @ layer) @ bottleneck
    z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    return z @ (directions / jnp.linalg.norm(directions, axis=0))


def linear_probe(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    tested: Float[np.ndarray, "m d"],
    truth: Int[np.ndarray, " m"],
    ridge: float = 1.0,
) -> float:
    """Accuracy of a linear classifier on fixed features: ridge regression onto one-hot labels, in double precision.

    Features are standardized by the labeled ones; those that are constant there are left out. Not for use inside a
    compiled program.

    Arguments:
        features: Of labeled inputs.
        labels: Classes, from 0 on.
        tested: Features of other inputs.
        truth: Their classes.
        ridge: Weight of the squares of the coefficients (not of the intercept), in (0, inf).

    Raises:
        ValueError: if ``ridge`` is out of range.

    Paper: Random Teachers are Good Teachers.
    """
    in_range("ridge", ridge, 0.0, open_low=True)
    x, z = np.asarray(features, float), np.asarray(tested, float)
    mean, spread = x.mean(0), x.std(0)
    used = spread > 1e-9 * np.abs(x).max(initial=0.0)
    x, z = ((a - mean)[:, used] / spread[used] for a in (x, z))
    y = np.eye(1 + max(int(labels.max()), int(truth.max())))[labels]
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    return float(np.mean((z @ weights + y.mean(0)).argmax(1) == truth))
