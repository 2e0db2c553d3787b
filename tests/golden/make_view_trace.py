"""Writes view_trace.txt: which hooks PyTorch fires, and with what, where views are changed in place.

    base = 2 x        view = base[1:3]        view *= w        sibling = base[2:4]
    out = sum(sibling * (1, 10)) + sum(base * base)

with hooks on each tensor before and after the change, on nodes and on leaves, retain_grad, and a hook over several
gradients. ../engine/view_trace_test.cpp does the same. One line is one event: the hook, where it is, and the values of
the gradients it saw, "-" for none.
"""

import pathlib

import torch

trace = [f"# torch {torch.__version__.split('+')[0]}"]


def note(hook, where, *gradients):
    def show(gradient):
        return "-" if gradient is None else ",".join(f"{value:g}" for value in gradient.flatten().tolist())

    trace.append(" ".join([hook, where, *map(show, gradients)]))


def watch(where, tensor):
    tensor.register_hook(lambda gradient: note("tensor", where, gradient))


def run(passes):
    x = torch.tensor([1.0, 2, 3, 4], requires_grad=True)
    w = torch.tensor([5.0, 7], requires_grad=True)
    for name, leaf in {"x": x, "w": w}.items():
        watch(name, leaf)
        leaf.register_post_accumulate_grad_hook(lambda tensor, name=name: note("accumulated", name, tensor.grad))
    base = x * 2
    watch("base_before", base)
    base.retain_grad()
    view = base[1:3]
    watch("view_before", view)
    view.mul_(w)
    watch("view_after", view)
    watch("base_after", base)
    sibling = base[2:4]
    watch("sibling", sibling)
    sibling.grad_fn.register_prehook(lambda outputs: note("node_pre", "sibling", *outputs))
    sibling.grad_fn.register_hook(lambda _inputs, outputs: note("node", "sibling", *outputs))
    torch.autograd.graph.register_multi_grad_hook((sibling, w), lambda gradients: note("all", "sibling_w", *gradients))
    out = (sibling * torch.tensor([1.0, 10])).sum() + (base * base).sum()
    watch("out", out)
    for k in range(passes):
        trace.append(f"pass {k}")
        out.backward(retain_graph=True)
    note("grad", "base", base.grad)
    trace.append("through the view")
    view.sum().backward()
    note("grad", "x", x.grad)
    note("grad", "w", w.grad)


run(2)
pathlib.Path(__file__).with_name("view_trace.txt").write_text("\n".join(trace) + "\n")
