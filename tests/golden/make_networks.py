"""Writes resnet18.txt, resnet34.txt and vgg16.txt: what PyTorch computes in float64 for torchvision's networks.

Weights, pictures and labels come from formula.py, so a file holds results only: logits and loss in full, and of every
activation, gradient and updated statistic the norm and eight projections (README.md says why that is enough).

    make_networks.py [NET...]            writes the files
    make_networks.py --search N [NET...] rates N candidate pictures per network instead (see INPUTS)
"""

import argparse
import pathlib

import numpy as np
import torch
import torchvision
from torch import nn

import formula

FOLDER = pathlib.Path(__file__).parent

# Name of the formula that makes each network's pictures. A rounding error can push a value across the kink of a ReLU or
# swap the winner of a max pooling; one such flip alone moves a gradient by more than 1e-4, in PyTorch's own float32
# as well. These pictures have no value that close to a kink: `--search` found them.
INPUTS = {"resnet18": "input.75", "resnet34": "input.17", "vgg16": "input.330"}
SHAPE = (2, 3, 64, 64)
LARGE_SHAPE = (1, 3, 224, 224)


def build(name, dtype=torch.float64):
    net = getattr(torchvision.models, name)(weights=None)
    state = {key: torch.from_numpy(np.array(formula.network_tensor(key, tuple(value.shape))))
             for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.to(dtype)


def set_mode(net, mode):
    """Dropout stays in evaluation: its random numbers are nobody's to reproduce."""
    net.train(mode == "train")
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()


def picture(name, shape, dtype=torch.float64):
    return torch.from_numpy(formula.reals(name, shape, 3**0.5)).to(dtype)


def leaves(net):
    return [(name, module) for name, module in net.named_modules() if not list(module.children())]


class Writer:
    def __init__(self, path):
        self.file = open(path, "w", encoding="ascii")

    def line(self, *words):
        print(*words, file=self.file)

    def values(self, values):
        values = [f"{value:.10g}" for value in values]
        for start in range(0, len(values), 10):
            self.line(*values[start : start + 10])

    def digest(self, kind, name, tensor):
        array = tensor.detach().numpy()
        norm, projections = formula.digest(array)
        self.line(kind, name, array.ndim, *array.shape, f"{norm:.10g}", *(f"{p:.10g}" for p in projections))


def write_mode(writer, net_name, mode):
    net = build(net_name)
    set_mode(net, mode)
    for name, module in leaves(net):
        # Recorded at once: torchvision's in-place ReLUs and sums overwrite some of these later.
        module.register_forward_hook(lambda _m, _i, output, name=name: writer.digest("activation", name, output))
    x = picture(INPUTS[net_name], SHAPE).requires_grad_()
    labels = torch.from_numpy(formula.integers("labels", SHAPE[:1], 1000))

    writer.line("mode", mode)
    logits = net(x)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    writer.line("loss", f"{loss.item():.15g}")
    writer.line("logits", logits.dim(), *logits.shape)
    writer.values(logits.detach().numpy().reshape(-1))
    writer.digest("gradient", "input", x.grad)
    for name, parameter in net.named_parameters():
        writer.digest("gradient", name, parameter.grad)
    if mode == "train":
        for name, buffer in net.named_buffers():
            writer.digest("statistic", name, buffer)


def write(net_name):
    writer = Writer(FOLDER / f"{net_name}.txt")
    writer.line(f"# torch {torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}")
    writer.line("input", INPUTS[net_name], len(SHAPE), *SHAPE)
    writer.line("large_input", "picture", len(LARGE_SHAPE), *LARGE_SHAPE)
    write_mode(writer, net_name, "eval")
    write_mode(writer, net_name, "train")
    net = build(net_name).eval()
    writer.line("mode", "large")
    with torch.no_grad():
        logits = net(picture("picture", LARGE_SHAPE))
    writer.line("logits", logits.dim(), *logits.shape)
    writer.values(logits.numpy().reshape(-1))
    writer.line("end")


def kink_distances(net, x):
    """Per ReLU and max pooling: its input, and how far each of its decisions is from going the other way."""
    found = []

    def hook(module, inputs):
        value = inputs[0].detach().clone()
        if isinstance(module, nn.ReLU):
            found.append((value, value.abs()))
        else:
            windows = nn.functional.unfold(
                value, module.kernel_size, padding=module.padding, stride=module.stride
            ).reshape(value.shape[0], value.shape[1], -1, value.shape[-1] // module.stride * (value.shape[-2] // module.stride))
            best = windows.topk(2, dim=2).values
            found.append((value, (best[:, :, 0] - best[:, :, 1])[best[:, :, 0] > 0]))

    handles = [module.register_forward_pre_hook(hook) for _name, module in leaves(net)
               if isinstance(module, (nn.ReLU, nn.MaxPool2d))]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return found


def search(net_name, count):
    """Prints for each candidate the smallest distance to a kink in units of float32's rms error at that place."""
    ratings = {}
    double, single = build(net_name), build(net_name, torch.float32)
    for candidate in range(count):
        name = f"input.{candidate}"
        margins = []
        for mode in ("eval",) if net_name == "vgg16" else ("eval", "train"):
            set_mode(double, mode)
            set_mode(single, mode)
            exact = kink_distances(double, picture(name, SHAPE))
            rounded = kink_distances(single, picture(name, SHAPE, torch.float32))
            for (value, distance), (other, _distance) in zip(exact, rounded):
                error = (value - other).square().mean().sqrt()
                margins.append((distance.min() / error).item())
        ratings[name] = min(margins)
    for name, rating in sorted(ratings.items(), key=lambda item: -item[1])[:5]:
        print(net_name, name, f"{rating:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=list(INPUTS), metavar="NET")
    parser.add_argument("--search", type=int, metavar="N")
    arguments = parser.parse_args()
    for net_name in arguments.nets:
        if arguments.search:
            search(net_name, arguments.search)
        else:
            write(net_name)


if __name__ == "__main__":
    main()
