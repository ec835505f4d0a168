"""A Flower app: clients move halfway towards a point of their own; the last lies, and the first dies in round 2."""

import json
import os
import signal
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

client = ClientApp()
server = ServerApp()
CLIENTS, ROUNDS = 4, 3
TARGETS = np.array([[4.0, -1.0, 2.0], [1.0, 0.5, 3.0], [2.0, 2.5, -1.0]])


@client.train()
def train(message: Message, context: Context) -> Message:
    number, round = int(context.node_config["number"]), int(message.content["config"]["round"])
    if number == 0 and round == 2:
        os.killpg(0, signal.SIGKILL)  # without goodbye: this process, and its node, whose group it is
    model = message.content["arrays"].to_numpy_ndarrays()[0]
    sent = np.full(3, 1e6) if number == CLIENTS - 1 else (model + TARGETS[number]) / 2
    content = {"arrays": ArrayRecord([sent]), "metrics": MetricRecord({"num-examples": 1, "round": round})}
    return Message(content=RecordDict(content), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    from attractor.distributed import trimmed_mean
    from attractor.distributed.flower import RobustFedAvg

    strategy = RobustFedAvg(trimmed_mean(1), fraction_evaluate=0.0, min_available_nodes=CLIENTS, min_train_nodes=1)
    found = [[0.0, 0.0, 0.0]]
    timeout = float(context.run_config["timeout"])
    for round in range(1, ROUNDS + 1):  # one by one, to keep the models in between
        config, arrays = ConfigRecord({"round": round}), ArrayRecord([np.array(found[-1])])
        result = strategy.start(grid, arrays, num_rounds=1, timeout=timeout, train_config=config)
        found.append(result.arrays.to_numpy_ndarrays()[0].tolist())
        strategy.min_available_nodes = 1  # Flower would wait for the dead
    Path(str(context.run_config["report"])).write_text(json.dumps(found))
