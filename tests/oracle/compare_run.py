"""Runs the `grapnel` program on torchvision's networks and holds every number it gives against PyTorch in float64.

    compare_run.py --program build/tools/grapnel
    compare_run.py --program build/tools/grapnel --model resnet18 --weights FILE.pth --size 224

Without --weights each network gets random weights, saved by torch as zip and as legacy file. Three runs a network:
evaluation and training from the cross entropy, and evaluation in NHWC order from one class's logit. Prints a Markdown
table of relative L2 errors, PyTorch's own float32 errors beside ours, and exits with 1 if a limit is passed.

Kinks. Where a value lies within a rounding error of a ReLU's zero, or two values of a pooling window that close
together, float32 may decide otherwise than float64; either side is right, and one such decision alone can move a gradient
by more than the limit. So the float64 network takes the decisions of the float32 one it judges, read from the captured
activations, and each decision it would have taken otherwise must be one of a hair's breadth (KINK).
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision
from safetensors.numpy import load_file
from torch import nn

LIMITS = {"logits": 1e-5, "loss": 1e-5, "captures": 1e-5,
          "gradients": 1e-4, "capture gradients": 1e-4, "input gradient": 1e-4}
# Batch norm in training divides by the deviation of what may be eight values: float32 cannot do better than that allows.
# Of the inner layers the worst may be this many times PyTorch's worst, if that is more than the limit.
INNER, CONDITION = ("captures", "capture gradients"), 3.0
KINK = 1e-4  # of the tensor's root mean square
MODELS = ("resnet18", "resnet34", "vgg16")


@dataclasses.dataclass
class Setting:
    name: str
    train: bool = False
    target: int | None = None
    memory_format: str = "nchw"
    legacy: bool = False


SETTINGS = (
    Setting("eval"),
    Setting("train", train=True, legacy=True),
    Setting("eval, one class, NHWC", target=3, memory_format="nhwc"),
)


@dataclasses.dataclass
class Results:
    logits: np.ndarray
    loss: float | None
    captures: dict
    capture_gradients: dict
    gradients: dict
    input_gradient: np.ndarray


# --- the float64 network that follows somebody's decisions --------------------------------------------------------------


class Kinks:
    """How many decisions float64 would have taken otherwise, and the closest it was to doing so at the worst of them."""

    count = 0
    worst = 0.0

    def note(self, value, margin):
        self.count += margin.numel()
        if margin.numel():
            self.worst = max(self.worst, (margin.max() / value.square().mean().sqrt()).item())


class DecidedReLU(nn.Module):
    """Passes the elements that were positive at call 0, 1, ... of the network judged."""

    def __init__(self, outputs, kinks):
        super().__init__()
        self.masks, self.kinks, self.call = [torch.from_numpy(y > 0) for y in outputs], kinks, 0

    def forward(self, x):
        mask = self.masks[self.call]
        self.call += 1
        self.kinks.note(x.detach(), x.detach()[mask != (x > 0)].abs())
        return x * mask


class DecidedMaxPool(nn.Module):
    """Takes from each window the element that won in the network judged."""

    def __init__(self, pool, judged_input, kinks):
        super().__init__()
        self.pool, self.kinks = pool, kinks
        _values, self.winners = nn.functional.max_pool2d(
            torch.from_numpy(judged_input), pool.kernel_size, pool.stride, pool.padding, return_indices=True)

    def forward(self, x):
        y = x.flatten(2).gather(2, self.winners.flatten(2)).view(self.winners.shape)
        margin = self.pool(x.detach()) - y.detach()
        self.kinks.note(x.detach(), margin[margin > 0])
        return y


class DecidedDropout(nn.Module):
    """Keeps what was kept: a value or, where the value was zero, its gradient got through."""

    def __init__(self, p, judged_output, judged_input_gradient):
        super().__init__()
        self.factor = torch.from_numpy((judged_output != 0) | (judged_input_gradient != 0)) / (1 - p)

    def forward(self, x):
        return x * self.factor.to(x.dtype)


def replace(net, name, module):
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)


def decide_dropout(net, judged):
    previous = None
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Dropout):
            replace(net, name, DecidedDropout(module.p, judged.captures[name], judged.capture_gradients[previous]))
        previous = name


def decide_kinks(net, captures):
    kinks = Kinks()
    previous = None
    for name, module in list(net.named_modules()):
        if isinstance(module, torchvision.models.resnet.BasicBlock):
            # Its ReLU runs twice and only the last output is captured; the first one's input is what bn1 returned.
            replace(net, f"{name}.relu", DecidedReLU([captures[f"{name}.bn1"], captures[f"{name}.relu"]], kinks))
        elif isinstance(module, nn.MaxPool2d):
            replace(net, name, DecidedMaxPool(module, captures[previous], kinks))
        elif isinstance(module, nn.ReLU) and isinstance(net.get_submodule(name), nn.ReLU):
            replace(net, name, DecidedReLU([captures[name]], kinks))
        previous = name
    return kinks


# --- running ------------------------------------------------------------------------------------------------------------


def build(model, state, dtype):
    classes = next(reversed([value for key, value in state.items() if key.endswith("weight")])).shape[0]
    net = getattr(torchvision.models, model)(weights=None, num_classes=classes)
    net.load_state_dict(state)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # the captures are the layers' own outputs
    return net.to(dtype)


def leaf_names(net):
    return [name for name, module in net.named_modules() if not list(module.children())]


def run_torch(net, x, labels, setting, names):
    net.train(setting.train)
    x = x.detach().to(next(net.parameters()).dtype, copy=True).requires_grad_()
    captures, outputs = {}, {}

    def hook(name):
        def keep(_module, _inputs, output):
            output.retain_grad()
            captures[name], outputs[name] = output.detach().clone().numpy(), output

        return keep

    with contextlib.ExitStack() as handles:
        for name in names:
            handle = net.get_submodule(name).register_forward_hook(hook(name))
            handles.callback(handle.remove)
        logits = net(x)
    loss = nn.functional.cross_entropy(logits, labels) if setting.target is None else None
    (logits[:, setting.target].sum() if loss is None else loss).backward()
    return Results(
        logits=logits.detach().numpy(),
        loss=None if loss is None else loss.item(),
        captures=captures,
        capture_gradients={name: output.grad.numpy() for name, output in outputs.items()},
        gradients={name: parameter.grad.numpy() for name, parameter in net.named_parameters()},
        input_gradient=x.grad.numpy(),
    )


def run_program(program, model, weights, x, labels, setting, names, folder):
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "labels.npy", labels.numpy())
    command = [program, "run", "--model", model, "--weights", weights, "--input", folder / "x.npy", "--json",
               "--output", folder / "y.npy", "--input-grad", folder / "dx.npy", "--grads", folder / "grads.safetensors",
               "--memory-format", setting.memory_format]
    command += ["--labels", folder / "labels.npy"] if setting.target is None else ["--target", str(setting.target)]
    command += ["--train"] if setting.train else []
    for name in names:
        command += ["--capture", f"{name}={folder}/y.{name}.npy", "--capture-grad", f"{name}={folder}/dy.{name}.npy"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"grapnel run failed with {done.returncode} ({model}, {setting.name}):\n{done.stderr}")
    return Results(
        logits=np.load(folder / "y.npy"),
        loss=json.loads(done.stdout).get("loss"),
        captures={name: np.load(folder / f"y.{name}.npy") for name in names},
        capture_gradients={name: np.load(folder / f"dy.{name}.npy") for name in names},
        gradients=load_file(folder / "grads.safetensors"),
        input_gradient=np.load(folder / "dx.npy"),
    )


# --- judging ------------------------------------------------------------------------------------------------------------


def relative_error(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    difference, norm = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return difference / norm if difference else 0.0


def worst_error(found, expected):
    """The largest error of a dictionary's entries and its name; infinite if the names differ."""
    if found.keys() != expected.keys():
        return float("inf"), ", ".join(sorted(found.keys() ^ expected.keys()))
    return max((relative_error(found[name], expected[name]), name) for name in expected)


def judge(found, model, state, x, labels, setting, names, dropout):
    """Errors of one float32 implementation, as quantity -> (error, where), and its kinks."""
    net = build(model, state, torch.float64)
    if setting.train:
        decide_dropout(net, dropout)
    kinks = decide_kinks(net, found.captures)
    expected = run_torch(net, x, labels, setting, names)
    errors = {
        "logits": (relative_error(found.logits, expected.logits), ""),
        "captures": worst_error(found.captures, expected.captures),
        "gradients": worst_error(found.gradients, expected.gradients),
        "capture gradients": worst_error(found.capture_gradients, expected.capture_gradients),
        "input gradient": (relative_error(found.input_gradient, expected.input_gradient), ""),
    }
    if expected.loss is not None:
        errors["loss"] = (relative_error(found.loss, expected.loss), "")
    return errors, kinks


def limit(quantity, theirs):
    return max(LIMITS[quantity], CONDITION * theirs[quantity][0] if quantity in INNER else 0.0)


def cell(quantity, ours, theirs):
    if quantity not in ours:
        return "-"
    error, where = ours[quantity]
    mark = " **over**" if error > limit(quantity, theirs) else ""
    return f"{error:.1e}{mark}{f' {where}' if where else ''} / {theirs[quantity][0]:.1e}"


def check_dropout(net, captures):
    """Whether about half of what could be dropped was; five standard deviations are allowed."""
    names = list(dict(net.named_modules()))
    for i, name in enumerate(names):
        module = net.get_submodule(name)
        if isinstance(module, nn.Dropout):
            live = captures[names[i - 1]] != 0
            kept = (captures[name][live] != 0).mean()
            if abs(kept - (1 - module.p)) > 5 * (module.p * (1 - module.p) / live.sum()) ** 0.5:
                return f"{name} kept {kept:.3f}"
    return None


def compare(program, model, state, files, x, labels, setting, folder):
    """Prints one row; returns whether it is within the limits."""
    judged = build(model, state, torch.float32)
    names = leaf_names(judged)
    ours = run_program(program, model, files["legacy" if setting.legacy else "zip"], x, labels, setting, names, folder)
    trouble = check_dropout(judged, ours.captures) if setting.train else None
    if setting.train:
        decide_dropout(judged, ours)
    theirs = run_torch(judged, x, labels, setting, names)
    our_errors, our_kinks = judge(ours, model, state, x, labels, setting, names, ours)
    their_errors, their_kinks = judge(theirs, model, state, x, labels, setting, names, ours)
    kinks = f"{our_kinks.count} up to {our_kinks.worst:.1e} / {their_kinks.count} up to {their_kinks.worst:.1e}"
    cells = [cell(quantity, our_errors, their_errors) for quantity in LIMITS]
    print(f"| {model} | {setting.name} |", " | ".join(cells), f"| {kinks}{f', {trouble}' if trouble else ''} |", flush=True)
    within = all(error <= limit(quantity, their_errors) for quantity, (error, _where) in our_errors.items())
    return within and our_kinks.worst <= KINK and not trouble


def save_weights(state, folder, seed):
    """Random running statistics too: fresh ones would make evaluation a special case."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        elif key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif key.endswith("num_batches_tracked"):
            value.fill_(7)
    files = {"zip": folder / "weights.pth", "legacy": folder / "weights.legacy.pth"}
    torch.save(state, files["zip"])
    torch.save(state, files["legacy"], _use_new_zipfile_serialization=False)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path, help="the built grapnel")
    parser.add_argument("--model", choices=MODELS, action="append", help="repeatable; all three if absent")
    parser.add_argument("--weights", type=pathlib.Path, help="a file of one --model instead of random weights")
    parser.add_argument("--size", type=int, default=64, help="height and width of the pictures")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.weights and len(arguments.model or ()) != 1:
        parser.error("--weights needs exactly one --model")

    print("| network | run |", " | ".join(f"{name} (<= {value:g})" for name, value in LIMITS.items()), "| kinks |")
    print("|---" * (len(LIMITS) + 3) + "|")
    good = True
    for model in arguments.model or MODELS:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            torch.manual_seed(arguments.seed)
            if arguments.weights:
                state = torch.load(arguments.weights, map_location="cpu", weights_only=True)
                files = {"zip": arguments.weights, "legacy": arguments.weights}
            else:
                state = getattr(torchvision.models, model)(weights=None).state_dict()
                files = save_weights(state, folder, arguments.seed)
            x = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
            labels = torch.randint(0, 10, (arguments.batch,))
            for setting in SETTINGS:
                good &= compare(arguments.program, model, state, files, x, labels, setting, folder)
    print("\nEach cell: ours / PyTorch float32, both against float64." if good else "\nA limit was passed.")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
