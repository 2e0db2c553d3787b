"""Writes hook_order.txt: what PyTorch's module hooks see, and when. Needs torch.

One section "[scenario]" each; one line an event: kind, hook, module and the tensor lists it saw, each as (a,b) with "-"
for an unset one. hook_order_test.cpp plays the same scenarios. All tensors hold one element.
"""
import pathlib

import torch
from torch.nn.modules import module as global_hooks

lines = [f"# torch {torch.__version__.split('+')[0]}"]


def show(values):
    values = values if isinstance(values, tuple) else (values,)
    return "(" + ",".join("-" if v is None else f"{v.item():g}" for v in values) + ")"


def note(kind, hook, module, *lists):
    lines.append(" ".join([kind, hook, *([module.label] if module is not None else []), *map(show, lists)]))


def hook(kind, name, replace=None):
    """A hook that notes what it sees and returns replace(last list it may replace)."""
    replaced = {"pre": 0, "forward": 1, "backward_pre": 0, "backward": 0}[kind]

    def run(module, *lists):
        note(kind, name, module, *lists)
        if replace is not None:
            return replace(lists[replaced])

    return run


REGISTER = {
    "pre": "register_forward_pre_hook",
    "forward": "register_forward_hook",
    "backward_pre": "register_full_backward_pre_hook",
    "backward": "register_full_backward_hook",
}
GLOBAL = {
    "pre": global_hooks.register_module_forward_pre_hook,
    "forward": global_hooks.register_module_forward_hook,
    "backward_pre": global_hooks.register_module_full_backward_pre_hook,
    "backward": global_hooks.register_module_full_backward_hook,
}


def register(module, kind, name, replace=None, **options):
    return getattr(module, REGISTER[kind])(hook(kind, name, replace), **options)


class Labelled(torch.nn.Module):
    def __init__(self, label):
        super().__init__()
        self.label = label


class Scale(Labelled):
    def __init__(self, label, factor):
        super().__init__(label)
        self.weight = torch.nn.Parameter(torch.tensor([float(factor)]))

    def forward(self, x):
        return x * self.weight


class Chain(Labelled):
    def __init__(self, label, *parts):
        super().__init__(label)
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


class SumAndProduct(Labelled):
    def forward(self, a, b):
        return a + b, a * b


class Failing(Labelled):
    def forward(self, x):
        raise RuntimeError("on purpose")


def leaf(value, requires_grad=True):
    return torch.tensor([float(value)], requires_grad=requires_grad)


def result(name, tensor):
    lines.append(f"{name} {show(tensor)}")


def failure_hook(name):
    """Notes a call after a failure, when there is no output."""
    return lambda module, inputs, output: lines.append(f"forward {name} {module.label} {show(inputs)} ()")


def scenario(function):
    lines.append(f"[{function.__name__}]")
    function()


@scenario
def every_kind():
    net = Chain("net", Scale("first", 2), Scale("second", 5))
    handles = [GLOBAL[kind](hook(kind, f"global{i}")) for kind in GLOBAL for i in (1, 2)]
    for module in (net, *net.parts):
        for kind in REGISTER:
            for i in (1, 2):
                register(module, kind, f"local{i}")
    x = leaf(3)
    net(x).backward()
    result("x.grad", x.grad)
    for handle in handles:
        handle.remove()


@scenario
def prepended():
    for kind in REGISTER:
        net = Scale("net", 2)
        for i in range(5):
            register(net, kind, f"h{i}", prepend=i in (1, 4))
        net(leaf(3)).backward()


@scenario
def replacements():
    net = Chain("net", Scale("first", 2), Scale("second", 5))
    first = net.parts[0]
    register(first, "pre", "add1", lambda x: (x[0] + 1,))
    register(first, "pre", "see")
    register(first, "forward", "times10", lambda y: y * 10)
    register(first, "forward", "see")
    register(first, "backward_pre", "times3", lambda g: (g[0] * 3,))
    register(first, "backward_pre", "see")
    register(first, "backward", "times7", lambda g: (g[0] * 7,))
    register(first, "backward", "see")
    x = leaf(3)
    y = net(x)
    result("y", y)
    y.backward()
    result("x.grad", x.grad)
    result("first.weight.grad", first.weight.grad)


@scenario
def called_twice():
    net = Scale("net", 2)
    register(net, "backward_pre", "h")
    register(net, "backward", "h")
    x = leaf(3)
    net(net(x)).backward()
    result("x.grad", x.grad)


@scenario
def retained():
    net = Scale("net", 2)
    register(net, "backward_pre", "h")
    register(net, "backward", "h")
    x = leaf(3)
    y = net(x)
    y.backward(retain_graph=True)
    y.backward()
    result("x.grad", x.grad)


@scenario
def no_input_needs_gradient():
    net = Chain("net", Scale("first", 2), Scale("second", 5))
    for module in (net, *net.parts):
        register(module, "backward_pre", "h")
        register(module, "backward", "h")
    net(leaf(3, requires_grad=False)).backward()
    result("first.weight.grad", net.parts[0].weight.grad)


@scenario
def several_tensors():
    net = SumAndProduct("net")
    for kind in REGISTER:
        register(net, kind, "h")
    a, b = leaf(3), leaf(4)
    total, product = net(a, b)
    (total * 10 + product).backward()
    result("grads", (a.grad, b.grad))


@scenario
def tensor_hooks_around():
    net = Scale("net", 2)
    register(net, "backward_pre", "times3", lambda g: (g[0] * 3,))
    register(net, "backward", "times7", lambda g: (g[0] * 7,))

    def inside(module, inputs, output):
        inputs[0].register_hook(lambda g: note("tensor", "input_inside", None, g))
        output.register_hook(lambda g: note("tensor", "output_inside", None, g))

    net.register_forward_hook(inside)
    x = leaf(3)
    x.register_hook(lambda g: note("tensor", "input_outside", None, g))
    y = net(x)
    y.register_hook(lambda g: note("tensor", "output_outside", None, g))
    y.backward()


@scenario
def removing_themselves():
    net = Scale("net", 2)
    for kind in REGISTER:
        for i in range(3):
            handle = []

            def once(module, *lists, kind=kind, i=i, handle=handle):
                note(kind, f"h{i}", module, *lists)
                handle[0].remove()

            handle.append(getattr(net, REGISTER[kind])(once))
    for _ in range(2):
        net(leaf(3)).backward()
        lines.append("end")


@scenario
def registered_meanwhile():
    net = Scale("net", 2)

    def pre(module, inputs):
        note("pre", "h", module, inputs)
        register(module, "pre", "late")
        register(module, "forward", "late")
        register(module, "backward", "late")

    handle = net.register_forward_pre_hook(pre)
    net(leaf(3)).backward()
    lines.append("end")
    handle.remove()
    net(leaf(3)).backward()


@scenario
def always_called():
    net = Failing("net")
    kinds = [("plain", False), ("always", True)]
    handles = [global_hooks.register_module_forward_hook(failure_hook(f"global_{n}"), always_call=a) for n, a in kinds]
    for n, a in kinds:
        net.register_forward_hook(failure_hook(f"local_{n}"), always_call=a)
    try:
        net(leaf(3))
    except RuntimeError as error:
        lines.append(f"error {error}")
    for handle in handles:
        handle.remove()


@scenario
def always_called_once():
    net = Scale("net", 2)

    def fail(module, inputs, output):
        note("forward", "fails", module, inputs, output)
        raise RuntimeError("on purpose")

    net.register_forward_hook(hook("forward", "before"), always_call=True)
    net.register_forward_hook(fail)
    net.register_forward_hook(hook("forward", "plain_after"))
    net.register_forward_hook(hook("forward", "always_after"), always_call=True)
    try:
        net(leaf(3))
    except RuntimeError:
        lines.append("error")


@scenario
def second_derivative():
    class Cube(Labelled):
        def forward(self, x):
            return x * x * x

    net = Cube("net")
    register(net, "backward_pre", "h")
    register(net, "backward", "h")
    x = leaf(3)
    y = net(x)
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    lines.append("end")
    first.backward()
    result("x.grad", x.grad)


@scenario
def one_output_unused():
    net = SumAndProduct("net")
    register(net, "backward_pre", "h")
    register(net, "backward", "h")
    a, b = leaf(3), leaf(4)
    net(a, b)[0].backward()


@scenario
def always_called_after_pre_hook():
    net = Scale("net", 2)

    def fail(module, inputs):
        note("pre", "fails", module, inputs)
        raise RuntimeError("on purpose")

    register(net, "pre", "add1", lambda x: (x[0] + 1,))
    net.register_forward_pre_hook(fail)
    register(net, "pre", "plain_after")
    net.register_forward_hook(failure_hook("plain"))
    net.register_forward_hook(failure_hook("always"), always_call=True)
    try:
        net(leaf(3))
    except RuntimeError as error:
        lines.append(f"error {error}")


@scenario
def grad_outputs_from_pre_hooks():
    net = Scale("net", 2)
    register(net, "backward", "h")
    register(net, "backward_pre", "times3", lambda g: (g[0] * 3,))
    register(net, "backward_pre", "times5", lambda g: (g[0] * 5,))
    x = leaf(3)
    net(x).backward()
    result("x.grad", x.grad)


@scenario
def empty_slots():
    class Skipping(Labelled):
        def forward(self, a, nothing, b):
            return a * b, nothing, a + b

    net = Skipping("net")
    for kind in REGISTER:
        register(net, kind, "h")
    a, b = leaf(3), leaf(4)
    product, _, total = net(a, None, b)
    (total * 10 + product).backward()
    result("grads", (a.grad, b.grad))


@scenario
def several_operations():
    class Polynomial(Labelled):
        def forward(self, x):
            return x * x * x + 2 * x * x + x

    net = Polynomial("net")
    for kind in REGISTER:
        register(net, kind, "h")
    x = leaf(3)
    (net(x * 2) * 10).backward()
    result("x.grad", x.grad)


pathlib.Path(__file__).with_name("hook_order.txt").write_text("\n".join(lines) + "\n")
