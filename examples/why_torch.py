"""Why does this classifier in PyTorch learn so slowly? A monitor sees it: its lines are marked.

python examples/why_torch.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from attractor.torch import Monitor  # this

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 8 - 1).float(), torch.tensor(labels))
loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), nn.Softmax(dim=1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()

monitor = Monitor(model, optimizer)  # this
for _ in range(15):
    for x, y in loader:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor(loss)  # and this

print(monitor.diagnosis())
monitor.diagnosis().save("why_torch.html")
