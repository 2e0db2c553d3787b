"""Writes state_hooks.txt: when PyTorch's state_dict and load_state_dict hooks run, and what they see. Needs torch.

One section "[scenario]" each; one line an event: hook, module, prefix, names. state_hooks_test.cpp plays the same.
"""
import pathlib

import torch

lines = [f"# torch {torch.__version__.split('+')[0]}"]


class Scale(torch.nn.Module):
    def __init__(self, label):
        super().__init__()
        self.label = label
        self.weight = torch.nn.Parameter(torch.ones(1))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.label = "net"
        self.first = Scale("first")
        self.second = Scale("second")


def note(*words):
    lines.append(" ".join(word for word in words if word))


def watch(module, name=""):
    label = module.label
    module.register_state_dict_pre_hook(lambda m, prefix, keep: note("save_pre" + name, label, prefix))
    module.register_state_dict_post_hook(
        lambda m, state, prefix, meta: note("save_post" + name, label, prefix, ",".join(state)))
    module.register_load_state_dict_pre_hook(
        lambda m, state, prefix, *rest: note("load_pre" + name, label, prefix, ",".join(sorted(state))))
    module.register_load_state_dict_post_hook(
        lambda m, keys: note("load_post" + name, label, ",".join(keys.missing_keys), ",".join(keys.unexpected_keys),
                             f"{net.first.weight.item():g}"))


def scenario(function):
    global net
    net = Net()
    lines.append(f"[{function.__name__}]")
    function()


def load(state, strict=True):
    try:
        keys = net.load_state_dict(state, strict)
        note("loaded", ",".join(keys.missing_keys), ",".join(keys.unexpected_keys))
    except RuntimeError:
        note("failed")


@scenario
def order():
    for module in (net, net.first, net.second):
        watch(module, "1")
        watch(module, "2")
    state = net.state_dict()
    load({name: torch.full([1], 7.0) for name in state})


@scenario
def report():
    watch(net)
    watch(net.first)
    load({"first.weight": torch.full([1], 7.0), "other": torch.ones(1)}, strict=False)


@scenario
def edited():
    net.register_state_dict_post_hook(lambda m, state, prefix, meta: state.__delitem__(prefix + "second.weight"))
    net.first.register_state_dict_post_hook(
        lambda m, state, prefix, meta: state.__setitem__(prefix + "extra", torch.ones(1)))
    note("names", ",".join(net.state_dict()))


@scenario
def renamed():
    def rename(m, state, prefix, *rest):
        state[prefix + "weight"] = state.pop(prefix + "gamma")

    net.first.register_load_state_dict_pre_hook(rename)
    state = {"first.gamma": torch.full([1], 7.0), "second.weight": torch.ones(1)}
    load(state)
    note("given", ",".join(sorted(state)))
    note("value", f"{net.first.weight.item():g}")


@scenario
def forgiven():
    def forgive(m, keys):
        keys.missing_keys.clear()
        keys.unexpected_keys.clear()

    handle = net.register_load_state_dict_post_hook(forgive)
    load({"first.weight": torch.full([1], 7.0), "other": torch.ones(1)})
    handle.remove()
    load({"first.weight": torch.full([1], 7.0), "other": torch.ones(1)})


@scenario
def blamed():
    net.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.append("wanted"))
    load(net.state_dict())
    load(net.state_dict(), strict=False)


pathlib.Path(__file__).with_name("state_hooks.txt").write_text("\n".join(lines) + "\n")
