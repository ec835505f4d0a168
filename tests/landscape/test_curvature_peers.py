"""The same network in PyTorch and in JAX: curvature as curvlinops has it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

torch = pytest.importorskip("torch", reason="an extra")
curvlinops = pytest.importorskip("curvlinops", reason="a peer that is installed for tests only")

from attractor.landscape import extreme_eigenvalues  # noqa: E402
from attractor.linalg import ggn, hutchpp_trace, hvp  # noqa: E402


def test_hessian_and_gauss_newton_are_those_of_curvlinops():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    x, y = torch.randn(20, 4), torch.randint(3, (20,))
    data, function, theirs = [(x, y)], torch.nn.CrossEntropyLoss(), list(net.parameters())
    params = [jnp.asarray(p.detach().numpy()) for p in theirs]
    inputs, labels = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())

    def outputs(p):
        return jnp.tanh(inputs @ p[0].T + p[1]) @ p[2].T + p[3]

    def mean(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def loss(p):
        return mean(outputs(p))

    flat, restore = ravel_pytree(params)
    for peer, product in (
        (curvlinops.HessianLinearOperator, lambda p: hvp(loss, p)),
        (curvlinops.GGNLinearOperator, lambda p: ggn(outputs, mean, p)),
    ):
        operator = peer(net, function, theirs, data)
        dense = (operator @ torch.eye(flat.size)).detach().numpy().astype(float)

        def ours(p, product=product):
            matvec = product(p)
            columns = jax.vmap(lambda v: ravel_pytree(matvec(restore(v)))[0])(jnp.eye(flat.size))
            ends = extreme_eigenvalues(matvec, p, iterations=flat.size)
            return columns, ends, hutchpp_trace(matvec, p, jax.random.key(0), 3 * flat.size)

        columns, ends, trace = jax.jit(ours)(params)
        np.testing.assert_allclose(columns, dense, atol=1e-5)
        np.testing.assert_allclose(ends, np.linalg.eigvalsh(dense)[[0, -1]], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(trace, np.trace(dense), rtol=1e-4)
