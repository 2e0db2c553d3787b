"""Writes sgd.txt: parameters after each step of PyTorch's SGD, in float64. Needs torch.

One section "[lr momentum dampening weight_decay nesterov]" each; a line the two parameters of two values after a step.
The gradient of p is p * p - 3 at every step; the second parameter has none in the second step. optim_test.cpp plays the
same.
"""
import pathlib

import torch

SETTINGS = [
    (0.1, 0, 0, 0, 0),
    (0.1, 0, 0, 0.5, 0),
    (0.1, 0.9, 0, 0, 0),
    (0.1, 0.9, 0.3, 0, 0),
    (0.1, 0.9, 0, 0, 1),
    (0.05, 0.5, 0, 0.25, 1),
    (0.05, 0.5, 0.75, 0.25, 0),
]

lines = [f"# torch {torch.__version__.split('+')[0]}"]
for lr, momentum, dampening, weight_decay, nesterov in SETTINGS:
    lines.append(f"[{lr} {momentum} {dampening} {weight_decay} {nesterov}]")
    parameters = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in ([0.5, -1.0], [2.0, 1.5])]
    optimizer = torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=bool(nesterov))
    for step in range(4):
        optimizer.zero_grad()
        for parameter in parameters[:1] if step == 1 else parameters:
            parameter.grad = parameter.detach() * parameter.detach() - 3
        optimizer.step()
        lines.append(" ".join(repr(value) for parameter in parameters for value in parameter.tolist()))

pathlib.Path(__file__).with_name("sgd.txt").write_text("\n".join(lines) + "\n")
