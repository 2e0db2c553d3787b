"""Writes explain.txt: what PyTorch computes in float64 for the explanation methods on three small nets.

Weights and pictures come from ../../golden/formula.py. A line is

    NET METHOD LAYER TARGET KIND RANK sizes... norm projections...

with LAYER "-" for methods that explain the input alone, and a digest (../../golden/README.md) of one KIND of result:
raw, the map at the layer's size; heat, the map at the input's size, in 0..1; gradient, what is multiplied or taken
of the input's gradient; classic, heat of CAM with the 8-bit tail, times 255. The method "logits" is what it says.
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent / "golden"))
import formula  # noqa: E402

WIDTH, CLASSES = 8, 10


class NarrowResNet(ResNet):
    """torchvision's ResNet18 with WIDTH channels in its first stage."""

    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=CLASSES)
        self.conv1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.fc = nn.Linear(8 * WIDTH, CLASSES)

    def _make_layer(self, block, planes, *rest, **named):
        if planes == 64:
            self.inplanes = WIDTH
        return super()._make_layer(block, planes * WIDTH // 64, *rest, **named)


def plain():
    """Built like VGG: convolutions with ReLUs, a pool that leaves 2x2, two linear layers."""
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                             nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    classifier = nn.Sequential(nn.Linear(32, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, CLASSES))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), classifier)


class Repeated(nn.Module):
    """One ReLU runs three times, once right after a sum; CAM applies to its last map."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(5, CLASSES)

    def forward(self, x):
        y = self.relu(self.conv1(x))
        y = self.relu(self.conv2(y) + y)
        y = self.relu(self.conv2(y))
        return self.fc(y.mean((2, 3)))


# Net, height and width of the picture, layers, targets.
CASES = {
    "resnet": (NarrowResNet, (96, 64), ["layer4", "layer2.1.relu", "layer1.0.conv1"], [1, 7]),
    "plain": (plain, (22, 18), ["0.6", "0.4", "0.3"], [3]),
    "repeated": (Repeated, (9, 13), ["relu", "conv1"], [0, 9]),
}


def build(name):
    net = CASES[name][0]()
    net.load_state_dict({key: torch.from_numpy(np.array(formula.network_tensor(key, tuple(value.shape))))
                         for key, value in net.state_dict().items()})
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net.double().eval()


def gradcam(a, g):
    return F.relu((g.mean((2, 3), keepdim=True) * a).sum(1))


def gradcam_plus_plus(a, g):
    alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + 1e-6)
    return F.relu(((alpha * F.relu(g)).sum((2, 3), keepdim=True) * a).sum(1))


def xgradcam(a, g):
    return F.relu(((g * a).sum((2, 3), keepdim=True) / (a.sum((2, 3), keepdim=True) + 1e-7) * a).sum(1))


MAPS = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "xgradcam": xgradcam,
    "hirescam": lambda a, g: F.relu((g * a).sum(1)),
    "elementwise": lambda a, g: F.relu(g * a).sum(1),
    "layercam": lambda a, g: F.relu((F.relu(g) * a).sum(1)),
}
RULES = {
    "guided": lambda _module, inputs, outputs: (F.relu(inputs[0]),),
    "deconvnet": lambda _module, inputs, outputs: (F.relu(outputs[0]),),
    "saliency": lambda _module, inputs, outputs: None,
}


def words(tensor):
    norm, projections = formula.digest(tensor.numpy())
    return [tensor.dim(), *tensor.shape, f"{norm:.12g}", *(f"{p:.12g}" for p in projections)]


def resized(maps, size):
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0, 0]


def min_max(heat):
    return (heat - heat.min()) / (heat.max() - heat.min() + 1e-7)


def write_map(write, case, maps, size):
    heat = min_max(resized(maps, size))
    write(*case, "raw", *words(maps[0]))
    write(*case, "heat", *words(heat))
    return heat


def write_gradient(write, case, gradient):
    write(*case, "gradient", *words(gradient))
    write(*case, "heat", *words(min_max(gradient.abs().amax(1)[0])))


def observe(net, layers, x):
    """What the last call of each layer returned, and the logits."""
    seen = {}
    handles = [net.get_submodule(layer).register_forward_hook(lambda _m, _i, output, layer=layer: seen.update({layer: output}))
               for layer in layers]
    logits = net(x)
    for handle in handles:
        handle.remove()
    return seen, logits[0]


def with_rule(net, rule, x, target):
    handles = [module.register_full_backward_hook(rule) for module in net.modules() if isinstance(module, nn.ReLU)]
    x = x.clone().requires_grad_()
    gradient, = torch.autograd.grad(net(x)[0, target], x)
    for handle in handles:
        handle.remove()
    return gradient


def write_net(write, name):
    _, size, layers, targets = CASES[name]
    net = build(name)
    x = torch.from_numpy(formula.reals(f"{name}.picture", (1, 3, *size), 3**0.5)).double()
    seen, logits = observe(net, layers, x)
    write(name, "logits", "-", 0, "raw", *words(logits.detach()[None]))
    for target in targets:
        gradients = {method: with_rule(net, rule, x, target) for method, rule in RULES.items()}
        for method, gradient in gradients.items():
            write_gradient(write, (name, method, "-", target), gradient)
        for layer in layers:
            a = seen[layer]
            g, = torch.autograd.grad(logits[target], a, retain_graph=True)
            for method, formula_of in MAPS.items():
                heat = write_map(write, (name, method, layer, target), formula_of(a, g).detach(), size)
                if method == "gradcam":
                    write_gradient(write, (name, "guided-gradcam", layer, target), gradients["guided"] * heat)
        if name == "plain":
            continue
        cam = (net.fc.weight[target][:, None, None] * seen[layers[0]][0]).sum(0, keepdim=True).detach()
        write_map(write, (name, "cam", layers[0], target), cam, size)
        bytes_ = torch.floor(255 * ((cam - cam.min()) / (cam.max() - cam.min())))
        write(name, "cam", layers[0], target, "classic", *words(torch.round(resized(bytes_, size))))


def main():
    torch.manual_seed(0)
    with open(FOLDER / "explain.txt", "w", encoding="ascii") as file:
        for name in CASES:
            write_net(lambda *words: print(*words, file=file), name)


main()
