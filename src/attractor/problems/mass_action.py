"""Steady states of reaction networks with mass-action kinetics."""

from functools import partial

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.registry import problem


@problem("mass-action-network", metric="loss", steps=200, target=1e-8)
def mass_action_network(receptors: int = 3, ligands: int = 3, share: float = 0.7, seed: int = 0) -> Composite:
    r"""Steady state of a random binding network with its conserved totals, as a system of nonlinear equations.

    Receptors R bind ligands L to complexes, R + L ⇌ RL, and exchange them, RL + R' ⇌ R'L + R, with random rates that
    obey no detailed balance. With stoichiometric matrices $F, B$ (reactants, products), rates $k^\pm$ and the
    logarithms x of the concentrations,

    $$ h(x) = \begin{pmatrix} (B - F) (e^{k^+ + F^\top x} - e^{k^- + B^\top x}) \\ C e^x - C e^{x_0} \end{pmatrix} $$

    one balance per complex (the others follow), and one row of C for each receptor and ligand, bound or free, whose
    total is that of a random positive state $x_0$. There are as many equations as species. Starts are standard normal.

    Arguments:
        receptors: At least 1.
        ligands: At least 1.
        share: Chance that a receptor and a ligand bind, and that two complexes exchange, in [0, 1].
        seed: Of the network.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("receptors", receptors, 1)
    in_range("ligands", ligands, 1)
    in_range("share", share, 0.0, 1.0)
    rng, free = np.random.default_rng(seed), receptors + ligands
    bound = np.argwhere(rng.random((receptors, ligands)) < share)
    complexes = {(r, c): free + i for i, (r, c) in enumerate(bound)}
    species = free + len(complexes)
    reactions = [((r, receptors + c), (i,)) for (r, c), i in complexes.items()]
    reactions += [
        ((i, s), (j, r))
        for (r, c), i in complexes.items()
        for (s, d), j in complexes.items()
        if c == d and r != s and rng.random() < share
    ]
    one_hot = np.eye(species)
    forward = np.array([one_hot[list(left)].sum(0) for left, _ in reactions]).reshape(-1, species)
    backward = np.array([one_hot[list(right)].sum(0) for _, right in reactions]).reshape(-1, species)
    conserved = one_hot[:free]
    for (r, c), i in complexes.items():
        conserved[[r, receptors + c], i] = 1
    rates = rng.standard_normal((2, len(reactions)))
    totals = conserved @ np.exp(rng.standard_normal(species))
    network = tuple(jnp.asarray(a, dtype=float) for a in (forward, backward, rates, conserved, totals))
    return Composite.least_squares(eqx.Partial(_imbalance, network), partial(_start, species), optimum=0.0)


def _start(species: int, key: PRNGKeyArray) -> Float[Array, " m"]:
    return jr.normal(key, (species,))


def _imbalance(network: PyTree, x: Float[Array, " m"], batch: None = None) -> Float[Array, " m"]:
    forward, backward, (ahead, back), conserved, totals = network
    flux = jnp.exp(ahead + forward @ x) - jnp.exp(back + backward @ x)
    return jnp.concatenate([((backward - forward).T @ flux)[len(totals) :], conserved @ jnp.exp(x) - totals])
