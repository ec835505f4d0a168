"""Small random Markov decision processes, with the exact quantities that estimates from rollouts are held against."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attractor.checks import in_range


class RandomMDP(NamedTuple):
    """A finite decision process under a fixed policy. Logits are the policy's parameters; gradients are by them.

    Attributes:
        transition: P(t | s, a), shape (S, A, S).
        reward: r(s, a), shape (S, A).
        policy: π(a | s), shape (S, A).
        gamma: Discount factor in [0, 1).
    """

    transition: Float[np.ndarray, "s a t"]
    reward: Float[np.ndarray, "s a"]
    policy: Float[np.ndarray, "s a"]
    gamma: float

    @property
    def value(self) -> Float[np.ndarray, " s"]:
        """V(s), the expected discounted return."""
        mixed = np.einsum("sa,sat->st", self.policy, self.transition)
        return np.linalg.solve(np.eye(len(mixed)) - self.gamma * mixed, (self.policy * self.reward).sum(1))

    @property
    def advantage(self) -> Float[np.ndarray, "s a"]:
        """Q(s, a) - V(s)."""
        value = self.value
        return self.reward + self.gamma * self.transition @ value - value[:, None]

    def gradient(self, advantage: Float[np.ndarray, "s a"]) -> Float[np.ndarray, "s a"]:
        """E[A ∇ log π] over uniformly drawn states, exactly."""
        return self.policy * (advantage - (self.policy * advantage).sum(1, keepdims=True)) / len(self.policy)

    def visits(self, steps: int) -> Float[np.ndarray, "steps_and_one p p"]:
        """From each pair (s, a), numbered s·A + a, the probabilities of every pair after 0 … steps steps."""
        onward = (self.transition[..., None] * self.policy).reshape(self.reward.size, self.reward.size)
        found = [np.eye(self.reward.size)]
        for _ in range(steps):
            found.append(found[-1] @ onward)
        return np.stack(found)

    def rollouts(
        self, count: int, steps: int, seed: int
    ) -> tuple[Int[np.ndarray, "steps_and_one count"], Int[np.ndarray, "steps count"]]:
        """States and actions of ``count`` trajectories from uniformly drawn states."""
        random = np.random.default_rng(seed)

        def draw(probabilities: np.ndarray) -> np.ndarray:
            return (np.cumsum(probabilities, -1)[:, :-1] < random.random((count, 1))).sum(-1)

        states, actions = [random.integers(0, len(self.policy), count)], []
        for _ in range(steps):
            actions.append(draw(self.policy[states[-1]]))
            states.append(draw(self.transition[states[-1], actions[-1]]))
        return np.stack(states), np.stack(actions)

    def score(
        self, states: Int[np.ndarray, " count"], actions: Int[np.ndarray, " count"]
    ) -> Float[np.ndarray, "count s a"]:
        """∇ log π(a | s) of each pair."""
        found = np.zeros((len(states), *self.policy.shape))
        found[np.arange(len(states)), states] = np.eye(self.policy.shape[1])[actions] - self.policy[states]
        return found


def random_mdp(seed: int, states: int = 6, actions: int = 3, gamma: float = 0.95) -> RandomMDP:
    """Draw one: few likely successors (Dirichlet 0.3), normal rewards, a policy uniform on the simplex.

    Arguments:
        seed: Of the draw.
        states: S, at least 2.
        actions: A, at least 2.
        gamma: Discount factor in [0, 1).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("states", states, 2)
    in_range("actions", actions, 2)
    in_range("gamma", gamma, 0.0, 1.0, open_high=True)
    random = np.random.default_rng(seed)
    transition = random.dirichlet(np.full(states, 0.3), (states, actions))
    reward = random.standard_normal((states, actions))
    return RandomMDP(transition, reward, random.dirichlet(np.ones(actions), states), gamma)
