"""Optimizers that optax keeps well: registered with their search spaces, not written again."""

import optax

from attractor.registry import LEARNING_RATE, LogUniform, method

WIDE = {"learning_rate": LEARNING_RATE}

method("sgd", {"learning_rate": LogUniform(1e-3, 10.0)}, room="optim")(optax.sgd)
method("adam", WIDE, room="optim")(optax.adam)
method("adamw", {**WIDE, "weight_decay": LogUniform(1e-5, 1e-1)}, room="optim")(optax.adamw)
method("nadam", WIDE, room="optim")(optax.nadam)
method("rmsprop", WIDE, room="optim")(optax.rmsprop)
method("lion", {"learning_rate": LogUniform(1e-5, 1e-1)}, paper="lion-k", room="optim")(optax.lion)
method("adabelief", WIDE, room="optim")(optax.adabelief)
method("schedule-free-adamw", WIDE, room="optim")(optax.contrib.schedule_free_adamw)
