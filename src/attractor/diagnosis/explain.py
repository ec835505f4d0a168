"""A loss spike explained in words from what came before it."""

import numpy as np

from attractor.diagnosis.rules import THRESHOLDS, spikes
from attractor.diagnosis.rules.curves import BEFORE, NEAR, announced, change
from attractor.diagnosis.signs import Signs, median


def explain(signs: Signs, step: int | None = None) -> str:
    """What came before the loss of a step, in words.

    A batch is odd where the size of its inputs is, at that very step. An instability announces itself: the gradient
    or the update, right before, is larger than it had been. A jump out of quiet is left to the batch: its labels, or
    inputs that are odd in another way than by their size.

    Arguments:
        signs: Of a run.
        step: Default: that of the largest spike.

    Raises:
        ValueError: if the step was not recorded, or if no spike is on record.
    """
    steps, loss = np.asarray(signs.steps), np.asarray(signs.curves.get("loss", np.zeros(0)), float)
    if step is None:
        found = spikes(loss)
        if not found:
            raise ValueError("step: expected one, as no spike of the loss is on record to take by default")
        at = max(found, key=lambda s: s[1])[0]
    else:
        at = int(np.searchsorted(steps, step))
        if at == len(steps) or steps[at] != step:
            near = f"from {steps[0]:.0f} to {steps[-1]:.0f}" if len(steps) else "none"
            raise ValueError(f"step: expected one on record ({near}; older ones are thinned out), got {step}")
    usual = median(loss[max(at - BEFORE, 0) : at])
    sentences = [f"At step {steps[at]:.0f} the loss is {loss[at]:.4g}"]
    sentences[0] += f", {loss[at] / usual:.3g} times its median before." if usual > 0 else "."

    size = change(signs, "input size", at, at + 1)
    if size is not None and not 1 / THRESHOLDS["odd batch"] < size < THRESHOLDS["odd batch"]:
        sentences.append(f"The inputs of its batch have {size:.3g} times their usual size: the batch is odd.")
        return " ".join(sentences)
    raised = announced(signs, at)
    if raised:
        told = " and ".join(raised)
        sentences.append(f"In the {NEAR} steps before, {told}: an instability, not a batch; a smaller step helps.")
    elif raised is not None:
        sentences.append("Gradient and update were quiet until then: look at this batch and its labels.")
    else:
        sentences.append("No gradient was looked at in the steps before: give the monitor gradients, or more budget.")
    if size is not None:
        sentences.append("Its inputs have their usual size.")
    return " ".join(sentences)
