"""Optimizers that people know by name, against pytorch_optimizer's: 15 steps on one generic instance, to 1e-6.

All is in double precision; where their program rounds to less on the way it is made not to.
"""

import functools
import types

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.optim import adam_mini, kron, mars, normuon, scion, shampoo, soap, spectral_norm_bound, whitening

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
peers = pytest.importorskip("pytorch_optimizer", reason="a peer that is installed for tests only")
matrix = pytest.importorskip("pytorch_optimizer.optimizer.utils.matrix")

STEPS, RATE, DECAY = 15, 0.07, 0.3
SHAPES = {"a": (5, 3), "b": (2, 4), "c": (4,), "d": (), "e": (2, 3, 4)}
newton_schulz = functools.partial(matrix.zero_power_via_newton_schulz_5, dtype=torch.float64)


class Double:
    """torch, whose lesser precisions are double."""

    float32 = bfloat16 = torch.float64

    def __init__(self, **others):
        vars(self).update(others)

    def __getattr__(self, name):
        return getattr(torch, name)


def instance(names):
    """A start, and gradients for every step; the first in whole numbers, of which second moments are exact."""
    rng = np.random.default_rng(3)
    start = {k: rng.standard_normal(SHAPES[k]) for k in names}
    gradients = [{k: rng.standard_normal(SHAPES[k]) for k in names} for _ in range(STEPS)]
    gradients[0] = {k: np.round(3 * g) + 1 for k, g in gradients[0].items()}
    return start, gradients


def ours(optimizer, start, gradients):
    with jax.enable_x64(True):
        x = jax.tree.map(jnp.asarray, start)
        update = jax.jit(optax.with_extra_args_support(optimizer).update)
        state, path = optimizer.init(x), []
        for t, g in enumerate(gradients):
            updates, state = update(jax.tree.map(jnp.asarray, g), state, x, key=jr.key(t))
            x = optax.apply_updates(x, updates)
            path.append(jax.tree.map(np.asarray, x))
        return path


def theirs(make, start, gradients, before=lambda x: None):
    x = {k: torch.nn.Parameter(torch.from_numpy(np.array(v))) for k, v in start.items()}
    optimizer, path = make(x), []
    for g in gradients:
        before(x)
        for k, p in x.items():
            p.grad = torch.from_numpy(np.array(g[k]))
        optimizer.step()
        path.append({k: p.detach().numpy().copy() for k, p in x.items()})
    return path


def agree(path, expected):
    for here, there in zip(path, expected, strict=True):
        for k, v in here.items():
            np.testing.assert_allclose(v, there[k], rtol=1e-6, atol=1e-8, err_msg=k)


def matrices(tree):
    return jax.tree.map(lambda p: p.ndim > 1, tree)


def test_soap(monkeypatch):
    def eigh(m):  # where eigenvalues are zero a basis is anybody's: the same program chooses it
        with jax.enable_x64(True):
            return tuple(torch.from_numpy(np.array(a)) for a in jnp.linalg.eigh(jnp.asarray(m.numpy())))

    monkeypatch.setattr("attractor.optim.whitening._eigenvectors", lambda m: jnp.linalg.eigh(m)[1])
    linalg = types.SimpleNamespace(eigh=eigh, qr=torch.linalg.qr)
    monkeypatch.setattr("pytorch_optimizer.optimizer.soap.torch", Double(linalg=linalg))
    start, gradients = instance("abcde")

    def make(x):
        return peers.SOAP(
            x.values(), RATE, (0.8, 0.85), shampoo_beta=0.9, weight_decay=0.0, precondition_frequency=4, eps=1e-3
        )

    @torch.no_grad()
    def decay(x):  # theirs decays after the step, ours before it; and the first step goes into the bases
        for p in x.values():
            p.mul_(1 - RATE * DECAY)

    mine = soap(RATE, 0.8, 0.85, DECAY, eps=1e-3, shampoo_beta=0.9, every=4)
    agree(ours(mine, start, gradients), theirs(make, start, gradients, decay))


def test_the_eigenvectors_of_soap_do_not_hang_on_rounding():
    g = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    moments = jnp.asarray(g @ g.T)
    basis = whitening._eigenvectors(moments)
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-5)
    values = np.diag(basis.T @ moments @ basis)
    np.testing.assert_allclose(basis * values @ basis.T, moments, atol=1e-4)
    noise = 1e-6 * np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    other = whitening._eigenvectors(moments + noise + noise.T)
    np.testing.assert_allclose(np.abs(basis.T @ other), np.eye(6), atol=1e-3)
    plain, noisy = jnp.linalg.eigh(moments)[1], jnp.linalg.eigh(moments + noise + noise.T)[1]
    assert not np.allclose(np.abs(plain.T @ noisy), np.eye(6), atol=0.1)


def test_shampoo():
    start, gradients = instance("ab")
    mine = shampoo(RATE, 0.0, DECAY, eps=0.01)

    def make(x):
        return peers.Shampoo(x.values(), RATE, weight_decay=DECAY, weight_decouple=True, matrix_eps=0.01)

    agree(ours(mine, start, gradients), theirs(make, start, gradients))


def test_shampoo_of_a_tensor_and_of_few_axes_is_the_formula():
    start, gradients = instance("cde")
    found = ours(shampoo(1.0, 0.0, eps=0.01), start, gradients[:3])
    sums, total, x = [0.01 * np.eye(n) for n in SHAPES["e"]], {"c": 0.01, "d": 0.01}, dict(start)
    for g, point in zip(gradients, found, strict=False):
        e, total = g["e"], {k: v + g[k] ** 2 for k, v in total.items()}
        moments = [np.einsum(f, e, e) for f in ("ajk,bjk->ab", "iak,ibk->ab", "ija,ijb->ab")]
        sums = [s + m for s, m in zip(sums, moments, strict=True)]
        roots = []
        for s in sums:
            values, vectors = np.linalg.eigh(s)
            roots.append(vectors * values ** (-1 / 6) @ vectors.T)
        x["e"] = x["e"] - np.einsum("ai,bj,ck,ijk->abc", *roots, e)
        x |= {k: x[k] - g[k] / np.sqrt(v) for k, v in total.items()}
        agree([point], [x])


def test_shampoo_keeps_stale_roots_and_averages_what_is_whitened():
    start, gradients = instance("a")
    every, each = (ours(shampoo(1.0, 0.0, every=k), start, gradients[:4]) for k in (3, 1))
    agree(every[:1], each[:1])
    assert not np.allclose(every[1]["a"], each[1]["a"])
    moves = np.diff([start["a"], *[p["a"] for p in each]], axis=0)
    mean, total = np.zeros((5, 3)), start["a"]
    for t, (move, point) in enumerate(zip(moves, ours(shampoo(1.0, 0.7), start, gradients[:4]), strict=True), 1):
        mean = 0.7 * mean + 0.3 * move
        total = total + mean / (1 - 0.7**t)
        agree([point], [{"a": total}])


def test_kron(monkeypatch):
    start, gradients = instance("abcde")
    every, noise = 2, []
    with jax.enable_x64(True):
        for t in range(every - 1, STEPS, every):  # the steps that fit, and draw
            for i, x in enumerate(start.values()):
                drawn = jr.normal(jr.fold_in(jr.key(t), i), np.atleast_1d(x).shape)
                noise.append(torch.from_numpy(np.array(drawn.reshape(x.shape))))
    draws = iter(noise)
    monkeypatch.setattr("pytorch_optimizer.optimizer.psgd.torch", Double(randn_like=lambda x, dtype: next(draws)))

    def make(x):
        return peers.Kron(
            x.values(), RATE, 0.8, weight_decay=DECAY, pre_conditioner_update_probability=1 / every, balance_prob=0.0,
            precondition_dtype=torch.float64,
        )  # fmt: skip

    mine = kron(RATE, 0.8, DECAY, matrices, fit_probability=1 / every)
    agree(ours(mine, start, gradients), theirs(make, start, gradients))


@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)])
def test_the_bound_of_a_spectral_norm_is_theirs(shape):
    psgd = pytest.importorskip("pytorch_optimizer.optimizer.utils.psgd")
    with jax.enable_x64(True):
        for seed in range(4):
            m = np.random.default_rng(seed).standard_normal(shape)
            found = float(spectral_norm_bound(jnp.asarray(m)))
            np.testing.assert_allclose(found, psgd.norm_lower_bound(torch.from_numpy(m.copy())).item(), rtol=1e-9)
            assert found <= np.linalg.norm(m, 2) * (1 + 1e-9)
    assert float(spectral_norm_bound(jnp.zeros(shape))) == 0.0


def test_mars():
    start, gradients = instance("abcde")
    gradients = [{k: 0.4 * g for k, g in step.items()} for step in gradients]  # some are cut off and some are not

    def make(x):
        return peers.MARS(x.values(), RATE, (0.8, 0.9), gamma=0.3, weight_decay=DECAY, optimize_1d=True, eps=1e-12)

    agree(ours(mars(RATE, 0.8, 0.9, 0.3, DECAY, eps=1e-12), start, gradients), theirs(make, start, gradients))


@pytest.mark.parametrize("nesterov", [True, False])
def test_normuon(monkeypatch, nesterov):
    for module in ("normuon", "base"):
        monkeypatch.setattr(f"pytorch_optimizer.optimizer.muon.{module}.zero_power_via_newton_schulz_5", newton_schulz)
    start, gradients = instance("abcd")

    def make(x):
        muon = {"params": [x["a"], x["b"]], "use_muon": True, "lr": RATE, "weight_decay": DECAY, "eps": 1e-3}
        adam = {"params": [x["c"], x["d"]], "use_muon": False, "lr": RATE, "weight_decay": DECAY, "eps": 1e-3}
        both = [muon, adam | {"betas": (0.7, 0.9)}]
        return peers.NorMuon(both, momentum=0.8, beta2=0.85, nesterov=nesterov, ns_steps=4, foreach=False)

    mine = normuon(RATE, 0.8, 0.85, DECAY, nesterov=nesterov, ns_steps=4, b1=0.7, b2=0.9, eps=1e-3)
    agree(ours(mine, start, gradients), theirs(make, start, gradients))


@pytest.mark.parametrize(("decay", "constraint"), [(DECAY, False), (1.0, True)])
def test_scion(monkeypatch, decay, constraint):
    monkeypatch.setattr("pytorch_optimizer.optimizer.scion.zero_power_via_newton_schulz_5", newton_schulz)
    start, gradients = instance("abcd")

    def make(x):
        return peers.SCION(x.values(), RATE, 0.2, constraint=constraint, scale=1.7, weight_decay=decay)

    agree(ours(scion(RATE, 0.8, decay, radius=1.7), start, gradients), theirs(make, start, gradients))


@pytest.mark.parametrize("method", [normuon, scion])
def test_a_layer_laid_out_the_other_way_takes_the_same_step(method):
    start, gradients = instance("ab")
    turned = [jax.tree.map(np.transpose, g) for g in gradients]
    there = ours(method(RATE, layout="in, out"), jax.tree.map(np.transpose, start), turned)
    agree(ours(method(RATE), start, gradients), [jax.tree.map(np.transpose, p) for p in there])


@pytest.mark.parametrize("blocks", ["leaves", "rows", "columns"])
def test_adam_mini(monkeypatch, blocks):
    monkeypatch.setattr(
        "pytorch_optimizer.optimizer.adam_mini.torch",
        Double(tensor=functools.partial(torch.tensor, dtype=torch.float64)),
    )
    start, gradients = instance("abcd")

    def pieces(tree):  # a block of ours is a leaf of theirs
        turned = {k: v.T if blocks == "columns" else v for k, v in tree.items()}
        whole = {k: v for k, v in turned.items() if v.ndim < 2 or blocks == "leaves"}
        return whole | {f"{k}{i}": row for k, v in turned.items() if k not in whole for i, row in enumerate(v)}

    def make(x):
        model = torch.nn.Module()
        for name, p in x.items():
            model.register_parameter(name, p)
        return peers.AdamMini(model, RATE, (0.8, 0.9), weight_decay=DECAY, eps=1e-3)

    found = ours(adam_mini(RATE, 0.8, 0.9, DECAY, eps=1e-3, blocks=blocks), start, gradients)
    agree(list(map(pieces, found)), theirs(make, pieces(start), list(map(pieces, gradients))))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: adam_mini(0.1, blocks="heads"), "blocks"),
        (lambda: normuon(0.1, layout="rows"), "layout"),
        (lambda: scion(0.1, layout="rows"), "layout"),
        (lambda: soap(0.1, shampoo_beta=1.0), "shampoo_beta"),
        (lambda: kron(0.1, fit_probability=0.0), "fit_probability"),
    ],
)
def test_names_what_it_refuses(make, argument):
    with pytest.raises(ValueError, match=argument):
        make()


def test_kron_says_that_it_needs_a_key():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="key"):
        kron(0.1).update(x, kron(0.1).init(x), x)


@pytest.mark.parametrize("method", [soap, shampoo, kron])
def test_long_sides_get_no_matrix(method):
    x = {"w": jnp.ones((3, 5)), "b": jnp.ones(4)}
    sizes = [a.shape for a in jax.tree.leaves(method(0.1, max_size=3).init(x))]
    assert (3, 3) in sizes
    assert (5, 5) not in sizes
    assert (4, 4) not in sizes
    step = jax.jit(method(0.1, max_size=3).update)
    state = method(0.1, max_size=3).init(x)
    for t in range(3):
        updates, state = step(optax.tree.scale(t - 0.5, x), state, x, key=jr.key(t))
    assert all(bool(jnp.isfinite(u).all()) and float(jnp.abs(u).max()) > 0 for u in jax.tree.leaves(updates))
