"""Writes hook_trace.txt: in what order PyTorch fires every kind of hook in one pass, and what each sees.

The net branches, joins, and calls one module twice:

    a = stem(x)    b = shared(a)    c = shared(b)    d = a * b    e = c + d    y = head(e)

../nn/hook_trace_test.cpp builds the same with the same hooks. All tensors hold one element; one line is one event: the
hook, the module, tensor or node it is on, and the values it saw, "-" for none.
"""

import pathlib

import torch
from torch.nn.modules import module as global_hooks

trace = [f"# torch {torch.__version__.split('+')[0]}"]


def show(values):
    values = values if isinstance(values, tuple) else (values,)
    return "(" + ",".join("-" if value is None else f"{value.item():g}" for value in values) + ")"


def note(hook, where, *lists):
    trace.append(" ".join([hook, where, *map(show, lists)]))


class Scale(torch.nn.Module):
    def __init__(self, label, factor):
        super().__init__()
        self.label = label
        self.weight = torch.nn.Parameter(torch.tensor([float(factor)]))

    def forward(self, x):
        return x * self.weight


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.label = "net"
        self.stem, self.shared, self.head = Scale("stem", 2), Scale("shared", 3), Scale("head", 5)
        self.kept = {}

    def forward(self, x):
        a = self.stem(x)
        b = self.shared(a)
        c = self.shared(b)
        d = a * b
        e = c + d
        for name, tensor in {"a": a, "b": b, "c": c, "d": d, "e": e}.items():
            watch_tensor(name, tensor)
            watch_node(name, tensor.grad_fn)
        a.retain_grad()
        d.retain_grad()
        self.kept = {"a": a, "d": d}
        return self.head(e)


def watch_tensor(name, tensor):
    tensor.register_hook(lambda gradient: note("tensor", name, gradient))


def watch_node(name, node):
    node.register_prehook(lambda outputs: note("node_pre", name, outputs))
    node.register_hook(lambda inputs, outputs: note("node", name, inputs, outputs))


def watch_leaf(name, leaf):
    watch_tensor(name, leaf)
    leaf.register_post_accumulate_grad_hook(lambda tensor: note("post_accumulate", name, tensor.grad))
    node = leaf.expand_as(leaf).grad_fn.next_functions[0][0]
    node.register_prehook(lambda outputs: note("node_pre", name, outputs))
    node.register_hook(lambda _inputs, outputs: note("node", name, outputs))
    return node  # alive only while somebody holds it


def watch_module(module):
    module.register_forward_pre_hook(lambda m, x: note("pre", m.label, x))
    module.register_forward_hook(lambda m, x, y: note("forward", m.label, x, y))
    module.register_full_backward_pre_hook(lambda m, g: note("backward_pre", m.label, g))
    module.register_full_backward_hook(lambda m, gx, gy: note("backward", m.label, gx, gy))


net = Net()
x = torch.tensor([7.0], requires_grad=True)
global_hooks.register_module_forward_pre_hook(lambda m, x: note("global_pre", m.label, x))
global_hooks.register_module_forward_hook(lambda m, x, y: note("global_forward", m.label, x, y))
global_hooks.register_module_full_backward_pre_hook(lambda m, g: note("global_backward_pre", m.label, g))
global_hooks.register_module_full_backward_hook(lambda m, gx, gy: note("global_backward", m.label, gx, gy))
for module in net.modules():
    watch_module(module)
nodes = [watch_leaf(name, leaf) for name, leaf in [("x", x), *net.named_parameters()]]

y = net(x)
trace.append("backward pass")
y.backward()
for name, tensor in {**net.kept, "x": x, **dict(net.named_parameters())}.items():
    note("grad", name, tensor.grad)
pathlib.Path(__file__).with_name("hook_trace.txt").write_text("\n".join(trace) + "\n", encoding="ascii")
