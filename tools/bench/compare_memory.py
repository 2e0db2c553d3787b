#!/usr/bin/env python3
"""The peak resident memory of a training step, Grapnel's and PyTorch's, each in a process of its own.

    tools/bench/compare_memory.py --grapnel build/release/tools/grapnel --batch 32

Needs torch and torchvision. The peak counts everything, libraries too; what Python and PyTorch take before there is a
network is shown beside it.
"""
import argparse
import json
import subprocess
import sys

TORCH = """
import resource, sys, torch, torchvision
model, batch, size, threads, channels_last = sys.argv[1], *map(int, sys.argv[2:])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.set_num_threads(threads)
empty = peak()
layout = torch.channels_last if channels_last else torch.contiguous_format
net = torchvision.models.get_model(model, weights=None).train().to(memory_format=layout)
x = torch.randn(batch, 3, size, size).to(memory_format=layout)
y = torch.arange(batch) % 1000
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
for step in range(4):
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
print(empty, peak())
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grapnel", default="build/release/tools/grapnel", help="the program")
    parser.add_argument("--model", default="resnet18", help="resnet18, resnet34 or vgg16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    shape = [options.model, str(options.batch), str(options.size), str(options.threads)]

    ours = json.loads(subprocess.run(
        [options.grapnel, "bench", "--model", shape[0], "--batch", shape[1], "--size", shape[2], "--threads", shape[3],
         "--task", "train", "--warmup", "0", "--repeat", "4", "--json"],
        check=True, capture_output=True, text=True).stdout)["peak_mib"]
    print(f"{options.model}, training, batch {options.batch}, {options.size}x{options.size}\n")
    print("| | peak MiB | before there is a network | Grapnel / it |\n|---|---|---|---|")
    print(f"| Grapnel | {ours:.0f} | | |")
    for name, channels_last in (("torch nchw", "0"), ("torch channels_last", "1")):
        empty, peak = map(float, subprocess.run([sys.executable, "-c", TORCH, *shape, channels_last], check=True,
                                                capture_output=True, text=True).stdout.split())
        print(f"| {name} | {peak:.0f} | {empty:.0f} | {ours / peak:.2f} |")


if __name__ == "__main__":
    main()
