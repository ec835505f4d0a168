"""An estimator of scikit-learn, trained by its own partial_fit: any factory is a method, with its search space.

python examples/sklearn_partial_fit.py
"""

from functools import partial

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from attractor import LogUniform, Loop, compare

features, labels = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(scale(features), labels, test_size=0.4, random_state=0, stratify=labels)
x_validation, x_test, y_validation, y_test = x_test[::2], x_test[1::2], y_test[::2], y_test[1::2]


def train(make_estimator, seed):
    estimator = make_estimator(loss="log_loss", learning_rate="constant", random_state=seed)
    order = np.random.default_rng(seed)
    for _ in range(10):
        shuffled = order.permutation(len(y))
        estimator.partial_fit(x[shuffled], y[shuffled], classes=[0, 1])
        yield {
            "validation_accuracy": estimator.score(x_validation, y_validation),
            "test_accuracy": estimator.score(x_test, y_test),
        }


if __name__ == "__main__":
    space = {"eta0": LogUniform(1e-4, 1.0), "alpha": LogUniform(1e-6, 1e-2)}
    methods = {"last": (SGDClassifier, space), "averaged": (partial(SGDClassifier, average=True), space)}
    result = compare(Loop(train, metric="test_accuracy"), methods, seeds=8, budget=8, label="breast cancer")
    print(result)
    result.report("sklearn_partial_fit.html")
