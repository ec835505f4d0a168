"""Every method in PyTorch's loops: by name, or any optax transformation as a `torch.optim.Optimizer`.

```python
import torch
from attractor.torch import optimizer

model = torch.nn.Linear(3, 1)
opt = optimizer("cautious-adamw", model.named_parameters(), lr=1e-2)
for _ in range(100):
    opt.zero_grad()
    loss = (model(torch.ones(8, 3)) - 1).square().mean()
    loss.backward()
    opt.step()
```
"""

import importlib
import os
from typing import Any

# JAX takes three quarters of a GPU's memory when it starts; here it shares the GPU with PyTorch.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from attractor.extras import needs

with needs("torch"):
    from attractor.torch.adapter import Optimizer
    from attractor.torch.named import optimizer

_DIAGNOSIS = {"Monitor": "attractor.diagnosis.torch", "diagnose": "attractor.diagnosis.torch_state"}


def __getattr__(name: str) -> Any:
    """What looks at a training lies above all else, and is imported when it is asked for."""
    if name in _DIAGNOSIS:
        return getattr(importlib.import_module(_DIAGNOSIS[name]), name)
    raise AttributeError(f"module 'attractor.torch' has no attribute {name!r}")
