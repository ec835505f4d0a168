"""Data sets as bits, for methods over the field of two elements."""

from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.feature_selection import chi2
from sklearn.model_selection import train_test_split

from attractor.problems.digits import digits

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # inputs and others held out, then their one-hot labels


def binary_iris(seed: int = 0) -> Split:
    """Iris in four bits: is the feature in the upper half of its range? Half of the flowers are held out.

    Arguments:
        seed: Of the split.

    Returns:
        Inputs, inputs held out, one-hot labels, labels held out: all boolean.
    """
    iris: Any = load_iris()
    train, test, *labels = _split(iris.data, iris.target, 0.5, seed)
    middle = (train.min(0) + train.max(0)) / 2
    return train > middle, test > middle, *labels


def binary_digits(seed: int = 0, bits: int = 10) -> Split:
    """Digits in a few bits: the pixels, black or white, that depend most on the digit. A fifth is held out.

    Arguments:
        seed: Of the split.
        bits: Pixels, from 1 to 64.

    Returns:
        As of `binary_iris`.

    Raises:
        ValueError: if ``bits`` is out of range.
    """
    if not 1 <= bits <= 64:
        raise ValueError(f"bits: expected a number from 1 to 64, got {bits}")
    images, labels = (np.concatenate(parts) for parts in zip(*digits(), strict=True))
    train, test, *labels = _split(images > 0.5, labels, 0.2, seed)
    dependence = np.nan_to_num(chi2(train, labels[0])[0])  # a pixel that is never on has none
    pixels = np.argsort(dependence)[-bits:]
    return train[:, pixels], test[:, pixels], *labels


def _split(inputs: np.ndarray, labels: np.ndarray, held_out: float, seed: int) -> Any:
    labels = labels[:, None] == np.arange(labels.max() + 1)
    return train_test_split(inputs, labels, test_size=held_out, stratify=labels, random_state=seed)
