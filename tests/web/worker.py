"""Stands in for the worker: says what it is told to, and waits where it is told to."""

import json
import os
import signal
import sys

order = json.loads(sys.stdin.readline())
script = order.get("script") or os.environ.get("SCRIPT", "result").split(",")


def tell(event, **data):
    print(json.dumps({"event": event, **data}), flush=True)


for what in script:
    if what == "wait":  # until standard input closes, or a signal comes
        try:
            sys.stdin.read()
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)
    elif what == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "raise":
        raise RuntimeError("it broke")
    elif what == "result":
        tell("result", table=[], settings={"command": ""}, missing=[])
    else:
        tell("progress", label=what, done=1, total=4, unit="method")
