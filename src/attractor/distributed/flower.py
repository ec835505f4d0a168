"""The robust rules in a Flower federation, with clients that are processes on other machines; extra ``flwr``."""

from collections.abc import Iterable
from logging import getLogger
from typing import Any

import jax
import numpy as np

from attractor.distributed.aggregation import Aggregator
from attractor.distributed.local import aggregate
from attractor.extras import needs

with needs("flwr"):
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord  # pyright: ignore[reportMissingImports]
    from flwr.serverapp import Grid  # pyright: ignore[reportMissingImports]
    from flwr.serverapp.exception import InconsistentMessageReplies  # pyright: ignore[reportMissingImports]
    from flwr.serverapp.strategy import FedAvg  # pyright: ignore[reportMissingImports]
    from flwr.serverapp.strategy.strategy_utils import validate_message_reply_consistency  # pyright: ignore[reportMissingImports]


class RobustFedAvg(FedAvg):
    """Flower's `FedAvg` whose mean is another rule, and whose server no reply can bring down.

    A reply counts if it has the arrays of the model, in their shapes, and finite numbers only; others are logged and
    left out, as are clients that do not answer within Flower's ``timeout``. Where too few are left for the rule, the
    model stays as it is for this round. Rules know no weights: ``num-examples``, which a client may lie about, weighs
    metrics only.

    Arguments:
        rule: ``(received, own) -> vector`` of `attractor.distributed.aggregation`; own is the server's model.
        **kwargs: As in ``flwr.serverapp.strategy.FedAvg``.
    """

    def __init__(self, rule: Aggregator, **kwargs: Any):
        super().__init__(**kwargs)
        self.rule = rule
        self._model: dict[str, np.ndarray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._model = {name: array.numpy() for name, array in arrays.items()}
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        answered, _ = self._check_and_log_replies(replies, is_train=True, validate=False)
        read = {reply.metadata.src_node_id: (reply, self._read(reply)) for reply in answered}
        for node, (_, model) in read.items():
            if model is None:
                getLogger("flwr").warning("round %s: node %s sent no finite model", server_round, node)
        kept = [(reply, model) for reply, model in read.values() if model is not None]
        if not kept:
            return None, None
        try:
            with jax.enable_x64(True):  # so that double precision stays what it is
                made = aggregate(self.rule, [model for _, model in kept], self._model)
        except ValueError as error:  # what a rule raises for too few vectors
            getLogger("flwr").warning("round %s: the model stays as it is: %s", server_round, error)
            return None, None
        # In the order of the model, which JAX has sorted by name: clients may read them as a list.
        return ArrayRecord({name: Array(np.asarray(made[name])) for name in self._model}), self._metrics(kept)

    def _metrics(self, kept: list[tuple[Message, Any]]) -> MetricRecord | None:
        """The metrics of what counts; `None` where a client sends some that do not fit those of the others."""
        contents = [reply.content for reply, _ in kept]
        try:
            validate_message_reply_consistency(contents, self.weighted_by_key, check_arrayrecord=False)
            return self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        except (InconsistentMessageReplies, TypeError, ValueError, ZeroDivisionError) as error:
            getLogger("flwr").warning("metrics are left out: %s", error)
            return None

    def _read(self, reply: Message) -> dict[str, np.ndarray] | None:
        """The model in a reply; `None` if it is not one."""
        records = list(reply.content.array_records.values())
        if len(records) != 1 or set(records[0]) != set(self._model):
            return None
        try:
            model = {name: array.numpy() for name, array in records[0].items()}
        except (EOFError, OSError, TypeError, ValueError):  # bytes that are no array
            return None
        right = all(
            isinstance(array, np.ndarray)
            and array.shape == self._model[name].shape
            and np.issubdtype(array.dtype, np.number)
            and np.isfinite(array).all()
            for name, array in model.items()
        )
        return model if right else None
