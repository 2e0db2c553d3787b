"""What autograd_bench.cpp measures, with PyTorch's Python; compare_autograd.py runs it.

    autograd_torch.py NODES MIN_SECONDS MEMORY_NODES

Prints one JSON object: row -> seconds (bytes for memory rows) per node.
"""
import ctypes
import json
import sys
import time

import torch

OPERATIONS = {
    "mul_scalar": lambda x, w: x * 0.999,
    "add_scalar": lambda x, w: x + 0.001,
    "mul": lambda x, w: x * w,
}


class Pass(torch.nn.Module):
    def forward(self, x):
        return x


def leaf():
    return torch.ones(1, requires_grad=True)


def chain(step, count):
    x, w = leaf(), leaf()
    for _ in range(count):
        x = step(x, w)
    return [x]


def hooked_chain(step, count, hook):
    x, w = leaf(), leaf()
    for _ in range(count):
        x = step(x, w)
        x.register_hook(hook)
    return [x]


def call_again(function, x, count):
    for _ in range(count):
        x = function(x)


def status_bytes(wanted):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(wanted + ":"))


def main():
    nodes, min_seconds, memory_nodes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    rows = {}
    torch.set_num_threads(1)

    def measure(name, prepare, timed):
        """The mean over repetitions whose timed parts fill min_seconds, after one that does not count."""
        total, count = 0.0, -1
        while count < 1 or total < min_seconds:
            prepared = prepare()
            start = time.perf_counter()
            result = timed(prepared)
            seconds = time.perf_counter() - start
            del result
            total += seconds if count >= 0 else 0
            count += 1
        rows[name] = total / (count * nodes)

    def forward_of(step):
        return lambda _: chain(step, nodes)

    for name, step in OPERATIONS.items():
        build = lambda: chain(step, nodes)
        measure("forward/" + name, int, forward_of(step))
        with torch.no_grad():
            measure("no_grad/" + name, int, forward_of(step))
        measure("destroy/" + name, build, lambda kept: kept.clear())
        measure("backward/" + name, build, lambda kept: kept[0].backward())

    hooked = lambda: hooked_chain(OPERATIONS["add_scalar"], nodes, lambda gradient: None)
    measure("forward/add_scalar+tensor_hook", int, lambda _: hooked())
    measure("backward/add_scalar+tensor_hook", hooked, lambda kept: kept[0].backward())

    module = Pass()
    measure("module/forward", leaf, lambda x: call_again(module.forward, x, nodes))
    measure("module/call", leaf, lambda x: call_again(module, x, nodes))
    module.register_forward_hook(lambda module, inputs, output: None)
    measure("module/call+forward_hook", leaf, lambda x: call_again(module, x, nodes))

    for name, step in OPERATIONS.items() if memory_nodes else ():
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")
        before = status_bytes("VmRSS")
        kept = chain(step, memory_nodes)
        rows["memory/" + name] = (status_bytes("VmRSS") - before) / memory_nodes
        kept[0].backward()
        rows["peak memory/" + name] = (status_bytes("VmHWM") - before) / memory_nodes
        del kept
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
