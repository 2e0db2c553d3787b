"""Writes training_8.txt and training_64.txt: twenty steps of PyTorch's SGD on a ResNet18 in training mode, in float64,
a narrow one of width 8 and torchvision's own of width 64.

Weights, statistics, pictures and labels come from formula.py; four batches follow each other again and again.
../nn/training_test.cpp plays the same. Kept are the loss before each step and a digest of every parameter and buffer
after the last one. Prints what float32 makes of it here.
"""
import pathlib

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

import formula

CLASSES, SIZE, BATCHES, STEPS = 10, 64, 4, 20
# Width -> batch and learning rate. With larger steps, one activation that rounding moves across zero is enough for
# PyTorch's own float32 to leave its float64 behind; so does the wide one with smaller batches.
SETTINGS = {8: (16, 0.001), 64: (32, 0.001)}


def resnet18(width, classes):
    net = torchvision.models.resnet18(weights=None, num_classes=classes)
    net.inplanes = width
    net.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    net.bn1 = nn.BatchNorm2d(width)
    for stage in range(4):
        setattr(net, f"layer{stage + 1}", net._make_layer(BasicBlock, width << stage, 2, stride=1 + (stage > 0)))
    net.fc = nn.Linear(width << 3, classes)
    return net


def train(width, dtype):
    net = resnet18(width, CLASSES)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            tensor.copy_(torch.tensor(formula.network_tensor(name, tuple(tensor.shape))))
    net.to(dtype).train()
    pictures, lr = SETTINGS[width]
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    losses = []
    for step in range(STEPS):
        batch = step % BATCHES
        x = torch.from_numpy(formula.reals(f"pictures {batch}", (pictures, 3, SIZE, SIZE), 3**0.5)).to(dtype)
        y = torch.from_numpy(formula.integers(f"labels {batch}", (pictures,), CLASSES))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}


def write(width):
    losses, state = train(width, torch.float64)
    rough_losses, rough_state = train(width, torch.float32)
    worst_loss = max(abs(a - b) / b for a, b in zip(rough_losses, losses))
    error = {k: ((rough_state[k] - v) ** 2).sum() ** 0.5 / ((v**2).sum() ** 0.5) for k, v in state.items()}
    worst = max(error, key=error.get)
    print(f"width {width}, float32: losses within {worst_loss:.1e}, state within {error[worst]:.1e} ({worst})")
    print("losses", *(f"{loss:.4f}" for loss in losses), flush=True)

    lines = [f"# torch {torch.__version__.split('+')[0]}", *(f"loss {loss!r}" for loss in losses)]
    for name, value in state.items():
        norm, projections = formula.digest(value)
        numbers = " ".join(f"{number:.10g}" for number in [norm, *projections])
        lines.append(f"state {name} {value.ndim} {' '.join(map(str, value.shape))} {numbers}".replace("  ", " "))
    lines.append("end")
    pathlib.Path(__file__).with_name(f"training_{width}.txt").write_text("\n".join(lines) + "\n")


def main():
    torch.set_num_threads(1)
    for width in SETTINGS:
        write(width)


if __name__ == "__main__":
    main()
