"""Writes ops.txt: what PyTorch computes in float64 for a table of small cases, values and first-order gradients.

A case is a name, its inputs by formula (formula.py) and an expression; ../engine/ops_golden_test.cpp has the same
expression under the same name. The gradients are those of sum(output * upstream), upstream by formula as well. Beside
them stands the case's longest sum: how many terms at most make one output or one gradient, counted in the Jacobian.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F

import formula

CASES = {}


def real(*shape, scale=1.5, shift=0.0):
    """Values spread over shift +- scale, rounded to float32; differentiated."""
    return ("real", shape, scale, shift)


def constant(*shape, scale=1.5, shift=0.0):
    """The same, not differentiated."""
    return ("constant", shape, scale, shift)


def steps(*shape):
    """-2, -1, 0, 1 or 2: ties, zeros and kinks; differentiated."""
    return ("steps", shape, 5, -2)


def index(*shape, limit):
    """int64 in [0, limit)."""
    return ("index", shape, limit, 0)


def case(name, inputs, function):
    assert name not in CASES, name
    CASES[name] = (inputs, function)


def make_input(name, spec):
    kind, shape, a, b = spec
    if kind == "index":
        return torch.from_numpy(formula.integers(name, shape, a))
    if kind == "steps":
        return torch.from_numpy((formula.integers(name, shape, a) + b).astype(np.float64)).requires_grad_()
    value = torch.from_numpy(formula.reals(name, shape, a, b).astype(np.float64))
    return value.requires_grad_(kind == "real")


# --- elementwise ------------------------------------------------------------------------------------------------------
positive = dict(scale=1.0, shift=1.5)
case("add broadcast", [real(2, 3, 4), real(3, 1)], lambda a, b: a + b)
case("sub broadcast", [real(4), real(2, 3, 1)], lambda a, b: a - b)
case("mul broadcast both", [real(3, 1, 4), real(2, 1)], lambda a, b: a * b)
case("div broadcast", [real(2, 3), real(3, **positive)], lambda a, b: a / b)
case("mul scalar tensor", [real(2, 3), real()], lambda a, b: a * b)
case("number arithmetic", [real(7, **positive)], lambda x: 2 - (3 * x + 1) / 4 + 5 / x - (-x))
case("pow tensors", [real(2, 3, **positive), real(3)], lambda a, b: a**b)
case("pow 2 through zero", [steps(9)], lambda x: x**2.0)
case("pow 3 negative base", [real(9)], lambda x: x**3.0)
case("pow -2 negative base", [real(9, scale=1.0, shift=-1.5)], lambda x: x**-2.0)
case("pow 0.5 at zero", [("steps", (9,), 3, 0)], lambda x: x**0.5)
case("pow 1 through zero", [steps(9)], lambda x: x**1.0)
case("pow 0 through zero", [steps(9)], lambda x: x**0.0)
case("pow 1.5", [real(9, **positive)], lambda x: x**1.5)
case("maximum with ties", [steps(4, 6), steps(4, 6)], torch.maximum)
case("exp", [real(9, scale=5.0)], torch.exp)
case("log", [real(9, **positive)], torch.log)
case("sqrt", [real(9, **positive)], torch.sqrt)
case("abs through zero", [steps(9)], torch.abs)
case("reciprocal", [real(9, **positive)], torch.reciprocal)
case("sign", [steps(9)], torch.sign)
case("clamp", [real(15)], lambda x: x.clamp(-0.5, 0.75))
case("relu through zero", [steps(9)], torch.relu)
case("relu in place", [real(2, 3, 4, 5)], lambda x: (x * 2).relu_())
case("leaky_relu", [real(12)], lambda x: F.leaky_relu(x, 0.2))
case("leaky_relu through zero", [steps(12)], F.leaky_relu)
case("sigmoid", [real(12, scale=20.0)], torch.sigmoid)
case("tanh", [real(12, scale=5.0)], torch.tanh)

# --- reductions -------------------------------------------------------------------------------------------------------
case("sum all", [real(2, 3, 4)], lambda x: x.sum())
case("sum outer and inner", [real(2, 3, 4)], lambda x: x.sum((0, -1)))
case("sum channels last", [real(2, 3, 4, 5)], lambda x: x.sum((0, 2, 3), keepdim=True))
case("mean", [real(2, 3, 4)], lambda x: x.mean(1))
case("mean keepdim", [real(2, 3, 4, 2)], lambda x: x.mean((2, 3), keepdim=True))
case("amax all with ties", [steps(3, 5)], lambda x: x.amax())
case("amax dims with ties", [steps(3, 5, 4)], lambda x: x.amax((0, 2)))
case("amax keepdim", [real(3, 5)], lambda x: x.amax(1, keepdim=True))
case("max along a dimension", [real(3, 5, 2)], lambda x: x.max(1))
case("max with ties", [steps(4, 6)], lambda x: x.max(-1, keepdim=True))
case("argmax with ties", [steps(4, 6)], lambda x: x.argmax(0))
case("var all", [real(3, 5)], lambda x: x.var(correction=1))
case("var population", [real(3, 5, 2)], lambda x: x.var((0, 2), correction=0))
case("var correction 2 keepdim", [real(3, 5)], lambda x: x.var(1, correction=2, keepdim=True))

# --- matrices ---------------------------------------------------------------------------------------------------------
case("matmul vector vector", [real(5), real(5)], torch.matmul)
case("matmul vector matrix", [real(5), real(5, 3)], torch.matmul)
case("matmul matrix vector", [real(3, 5), real(5)], torch.matmul)
case("matmul matrix matrix", [real(3, 5), real(5, 4)], torch.matmul)
case("matmul transposed", [real(5, 3), real(4, 5)], lambda a, b: a.transpose(0, 1) @ b.transpose(0, 1))
case("matmul vector batch", [real(5), real(2, 5, 3)], torch.matmul)
case("matmul batch vector", [real(2, 3, 5), real(5)], torch.matmul)
case("matmul batch matrix", [real(2, 3, 5), real(5, 4)], torch.matmul)
case("matmul matrix batch", [real(3, 5), real(2, 5, 4)], torch.matmul)
case("matmul batch batch", [real(2, 3, 5), real(2, 5, 4)], torch.matmul)
case("matmul broadcast batches", [real(3, 1, 2, 4), real(2, 4, 3)], torch.matmul)
case("linear", [real(4, 7), real(3, 7), real(3)], F.linear)
case("linear without bias", [real(2, 3, 7), real(4, 7)], F.linear)
case("linear vector", [real(7), real(4, 7), real(4)], F.linear)

# --- convolution and pooling ------------------------------------------------------------------------------------------
case("conv2d", [real(2, 3, 5, 6), real(4, 3, 3, 3), real(4)], F.conv2d)
case("conv2d without bias", [real(1, 2, 5, 4), real(3, 2, 2, 3)], F.conv2d)
case("conv2d padded", [real(2, 3, 4, 5), real(2, 3, 3, 3), real(2)], lambda x, w, b: F.conv2d(x, w, b, padding=1))
case("conv2d stem", [real(1, 3, 9, 11), real(4, 3, 7, 7)], lambda x, w: F.conv2d(x, w, stride=2, padding=3))
case("conv2d 1x1 stride 2", [real(2, 4, 5, 5), real(3, 4, 1, 1)], lambda x, w: F.conv2d(x, w, stride=2))
case("conv2d uneven", [real(1, 2, 7, 6), real(3, 2, 3, 2), real(3)],
     lambda x, w, b: F.conv2d(x, w, b, stride=(2, 1), padding=(0, 2), dilation=(1, 2)))
case("conv2d dilated", [real(1, 2, 7, 7), real(2, 2, 3, 3)], lambda x, w: F.conv2d(x, w, padding=2, dilation=2))
case("conv2d groups", [real(2, 4, 4, 5), real(6, 2, 3, 3), real(6)],
     lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2))
case("conv2d depthwise", [real(1, 4, 5, 5), real(8, 1, 3, 3)],
     lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=4))
case("conv2d window larger than picture", [real(1, 2, 2, 2), real(2, 2, 3, 3)], lambda x, w: F.conv2d(x, w, padding=1))
case("conv2d_input_grad", [real(2, 3, 3, 3), real(3, 2, 3, 3)],
     lambda dy, w: torch.nn.grad.conv2d_input((2, 2, 6, 6), w, dy, stride=2, padding=1))
case("conv2d_weight_grad", [real(2, 2, 6, 6), real(2, 3, 3, 3)],
     lambda x, dy: torch.nn.grad.conv2d_weight(x, (3, 2, 3, 3), dy, stride=2, padding=1))
case("max_pool2d", [real(2, 3, 6, 4)], lambda x: F.max_pool2d(x, 2))
case("max_pool2d stem", [real(1, 2, 7, 8)], lambda x: F.max_pool2d(x, 3, 2, 1))
case("max_pool2d with ties", [steps(1, 3, 6, 6)], lambda x: F.max_pool2d(x, 3, 2, 1))
case("max_pool2d ceil", [real(1, 2, 6, 5)], lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True))
case("max_pool2d ceil drops empty window", [real(1, 2, 5, 5)], lambda x: F.max_pool2d(x, 2, 3, 1, ceil_mode=True))
case("max_pool2d dilated", [real(1, 2, 7, 7)], lambda x: F.max_pool2d(x, (2, 3), 1, (1, 1), dilation=(3, 2)))
case("avg_pool2d", [real(2, 3, 6, 4)], lambda x: F.avg_pool2d(x, 2))
case("avg_pool2d padded", [real(1, 2, 5, 6)], lambda x: F.avg_pool2d(x, 3, 2, 1))
case("avg_pool2d without padding in the count", [real(1, 2, 5, 6)],
     lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
case("avg_pool2d ceil", [real(1, 2, 6, 5)], lambda x: F.avg_pool2d(x, (3, 2), (2, 3), (1, 0), ceil_mode=True))
case("avg_pool2d ceil without padding in the count", [real(1, 2, 6, 5)],
     lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False))
case("adaptive_avg_pool2d to one", [real(2, 3, 4, 5)], lambda x: F.adaptive_avg_pool2d(x, 1))
case("adaptive_avg_pool2d uneven", [real(1, 2, 7, 5)], lambda x: F.adaptive_avg_pool2d(x, (3, 4)))
case("adaptive_avg_pool2d enlarging", [real(1, 2, 2, 3)], lambda x: F.adaptive_avg_pool2d(x, (5, 7)))


def resize(size, mode, align=None):
    return lambda x: F.interpolate(x, size, mode=mode, align_corners=align)


case("interpolate nearest up", [real(1, 2, 3, 4)], resize((7, 6), "nearest"))
case("interpolate nearest down", [real(1, 2, 7, 5)], resize((3, 2), "nearest"))
case("interpolate bilinear up", [real(1, 2, 3, 4)], resize((7, 6), "bilinear", False))
case("interpolate bilinear down", [real(1, 2, 7, 5)], resize((3, 2), "bilinear", False))
case("interpolate bilinear up aligned", [real(1, 2, 3, 4)], resize((7, 6), "bilinear", True))
case("interpolate bilinear down aligned", [real(1, 2, 7, 5)], resize((3, 2), "bilinear", True))
case("interpolate bilinear to one aligned", [real(1, 2, 4, 3)], resize((1, 1), "bilinear", True))

# --- normalisation and losses -----------------------------------------------------------------------------------------


def batch_norm(training, momentum=0.1, eps=1e-5):
    def function(x, weight, bias, mean, var):
        mean, var = mean.clone(), var.clone()
        y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
        return y, mean, var

    return function


statistics = [constant(3), constant(3, **positive)]
case("batch_norm train", [real(2, 3, 3, 4), real(3), real(3), *statistics], batch_norm(True))
case("batch_norm train momentum and eps", [real(2, 3, 2, 2), real(3), real(3), *statistics], batch_norm(True, 0.3, 1e-2))
case("batch_norm eval", [real(2, 3, 3, 4), real(3), real(3), *statistics], batch_norm(False))
case("batch_norm without weight", [real(2, 3, 3, 4)], lambda x: F.batch_norm(x, None, None, training=True))
case("batch_norm far from zero", [real(2, 3, 3, 4, scale=1.0, shift=100.0), real(3), real(3)],
     lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True))
case("softmax", [real(3, 5, scale=4.0)], lambda x: x.softmax(1))
case("softmax middle", [real(2, 4, 3)], lambda x: x.softmax(1))
case("softmax large values", [real(2, 5, scale=1000.0)], lambda x: x.softmax(-1))
case("log_softmax", [real(3, 5, scale=4.0)], lambda x: x.log_softmax(1))
case("log_softmax first", [real(4, 3)], lambda x: x.log_softmax(0))
case("nll_loss", [real(4, 5), index(4, limit=5)], F.nll_loss)
case("nll_loss none", [real(4, 5), index(4, limit=5)], lambda x, y: F.nll_loss(x, y, reduction="none"))
case("cross_entropy", [real(4, 5, scale=4.0), index(4, limit=5)], F.cross_entropy)
case("cross_entropy sum", [real(4, 5), index(4, limit=5)], lambda x, y: F.cross_entropy(x, y, reduction="sum"))
case("cross_entropy none", [real(4, 5), index(4, limit=5)], lambda x, y: F.cross_entropy(x, y, reduction="none"))
case("nll_loss weighted", [real(4, 5), index(4, limit=5), constant(5, **positive)],
     lambda x, y, w: F.nll_loss(x, y, w))
case("nll_loss weighted sum", [real(4, 5), index(4, limit=5), constant(5, **positive)],
     lambda x, y, w: F.nll_loss(x, y, w, reduction="sum"))
case("cross_entropy weighted none", [real(4, 5), index(4, limit=5), constant(5, **positive)],
     lambda x, y, w: F.cross_entropy(x, y, w, reduction="none"))
case("cross_entropy smoothed", [real(4, 5, scale=4.0), index(4, limit=5)],
     lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1))
for reduction in ("mean", "sum", "none"):
    case(f"cross_entropy weighted smoothed {reduction}", [real(4, 5), index(4, limit=5), constant(5, **positive)],
         lambda x, y, w, reduction=reduction: F.cross_entropy(x, y, w, reduction=reduction, label_smoothing=0.3))
case("bce with logits", [real(3, 4, scale=4.0), real(3, 4, scale=0.5, shift=0.5)], F.binary_cross_entropy_with_logits)
case("bce with logits sum of large values", [real(3, 4, scale=200.0), real(3, 4, scale=0.5, shift=0.5)],
     lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="sum"))
case("bce with logits none through zero", [steps(9), ("index", (9,), 2, 0)],
     lambda x, y: F.binary_cross_entropy_with_logits(x, y.to(x.dtype), reduction="none"))
case("mse_loss", [real(3, 4), real(3, 4)], F.mse_loss)
case("mse_loss sum", [real(3, 4), real(3, 4)], lambda x, y: F.mse_loss(x, y, reduction="sum"))
case("mse_loss none", [real(3, 4), real(3, 4)], lambda x, y: F.mse_loss(x, y, reduction="none"))

# --- shape ------------------------------------------------------------------------------------------------------------
case("reshape of a transpose", [real(2, 3, 4)], lambda x: x.transpose(1, 2).reshape(4, -1))
case("view", [real(2, 3, 4)], lambda x: x.view(-1, 2))
case("flatten", [real(2, 3, 2, 2)], lambda x: x.flatten(1))
case("permute", [real(2, 3, 4)], lambda x: x.permute(2, 0, 1))
case("expand", [real(3, 1)], lambda x: x.expand(2, -1, 4))
case("narrow", [real(2, 5, 3)], lambda x: x.narrow(1, 1, 3))
case("select", [real(2, 5, 3)], lambda x: x.select(-2, -1))
case("squeeze and unsqueeze", [real(2, 1, 3)], lambda x: x.squeeze(1).unsqueeze(-1))
case("as_strided overlapping", [real(12)], lambda x: x.as_strided((3, 4), (2, 1), 1))
case("as_strided with gaps", [real(3, 4)], lambda x: x.as_strided((2, 3), (1, 4), 2))
case("cat", [real(2, 3), real(2, 1), real(2, 4)], lambda *x: torch.cat(x, 1))
case("cat repeated", [real(2, 3)], lambda x: torch.cat((x, x), 0))
case("stack", [real(2, 3), real(2, 3)], lambda *x: torch.stack(x, -1))
case("pad", [real(1, 2, 3, 4)], lambda x: F.pad(x, (1, 2, 3, 0), value=0.5))
case("pad cropping", [real(1, 2, 5, 6)], lambda x: F.pad(x, (-1, 2, 1, -2)))
case("index_select repeated", [real(2, 4, 3), index(6, limit=4)], lambda x, i: x.index_select(1, i))
case("index_add", [real(2, 6, 3), index(6, limit=4)], lambda y, i: torch.zeros(2, 4, 3).to(y).index_add(1, i, y))
case("gather", [real(3, 4), index(3, 5, limit=4)], lambda x, i: x.gather(1, i))
case("gather outer", [real(4, 3), index(2, 3, limit=4)], lambda x, i: x.gather(0, i))
case("scatter_add", [real(3, 5), index(3, 5, limit=4)], lambda y, i: torch.zeros(3, 4).to(y).scatter_add(1, i, y))


def as_tuple(value):
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)


def longest_sum(inputs, outputs):
    """Most nonzero entries in a row (terms of an output) or column (terms of a gradient) of the Jacobian."""
    inputs = [x for x in inputs if x.requires_grad]
    rows = []
    for output in outputs:
        if not output.requires_grad:
            continue
        for element in output.reshape(-1):
            gradients = torch.autograd.grad(element, inputs, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([torch.zeros(x.numel()) if g is None else (g != 0).reshape(-1).float()
                                   for x, g in zip(inputs, gradients)]))
    if not rows:
        return 1
    jacobian = torch.stack(rows)
    return int(max(jacobian.sum(0).max().item(), jacobian.sum(1).max().item(), 1))


def write_values(file, tensor):
    values = [repr(value) for value in tensor.detach().reshape(-1).tolist()]
    for start in range(0, len(values), 8):
        print(*values[start : start + 8], file=file)


def main():
    with open(pathlib.Path(__file__).parent / "ops.txt", "w", encoding="ascii") as file:
        print(f"# torch {torch.__version__.split('+')[0]}", file=file)
        for name, (specs, function) in CASES.items():
            inputs = [make_input(f"{name} {i}", spec) for i, spec in enumerate(specs)]
            outputs = as_tuple(function(*inputs))
            print("case", longest_sum(inputs, outputs), name, file=file)
            for kind, shape, a, b in specs:
                print("input", kind, len(shape), *shape, a, b, file=file)
            total = 0
            for i, output in enumerate(outputs):
                print("output", output.dim(), *output.shape, file=file)
                write_values(file, output)
                if output.requires_grad:
                    total = total + (output * torch.from_numpy(formula.reals(f"{name} upstream {i}", output.shape))).sum()
            differentiated = [x for x in inputs if x.requires_grad]
            if isinstance(total, torch.Tensor):
                for x, gradient in zip(differentiated, torch.autograd.grad(total, differentiated)):
                    print("gradient", gradient.dim(), *gradient.shape, file=file)
                    write_values(file, gradient)
        print("end", file=file)


if __name__ == "__main__":
    main()
