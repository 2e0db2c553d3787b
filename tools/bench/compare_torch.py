#!/usr/bin/env python3
"""Times Grapnel and PyTorch side by side and prints a Markdown table.

Both do the same work in turns, in many short rounds, so that a change of the machine's clock or load meets
both. A row's ratio is PyTorch's time over Grapnel's, round by round: above 1, Grapnel is faster. Its median
and its 10th and 90th percentile over the rounds are printed.

    tools/bench/compare_torch.py --grapnel build/release/tools/grapnel --threads 2

Needs torch and torchvision. Weights are random on both sides; times do not depend on them.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
import torchvision


def quantile(values, q):
    values = sorted(values)
    place = q * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def grad_cam(activation, gradient, size):
    cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
    cam = torch.nn.functional.interpolate(cam, size=size, mode="bilinear", align_corners=False)
    return (cam - cam.min()) / (cam.max() - cam.min() + 1e-7)


class Torch:
    """PyTorch's side: one net in one memory format."""

    def __init__(self, model, layer, batch, size, channels_last):
        torch.manual_seed(0)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = torchvision.models.get_model(model, weights=None).eval().to(memory_format=self.format)
        self.layer = self.net.get_submodule(layer)
        if hasattr(self.layer, "inplace"):
            self.layer.inplace = False  # PyTorch refuses a full backward hook on an in-place module
        self.x = torch.randn(batch, 3, size, size).to(memory_format=self.format)
        self.labels = torch.arange(batch) % 1000
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def infer(self):
        with torch.inference_mode():
            self.net(self.x)

    def gradcam_to_layer(self):
        """Frozen parameters, and the gradient only of the layer's output: the least that PyTorch has to do."""
        kept = []

        def keep(module, inputs, output):
            kept.append(output.detach().requires_grad_())
            return kept[0]

        handle = self.layer.register_forward_hook(keep)
        for parameter in self.net.parameters():
            parameter.requires_grad_(False)
        logits = self.net(self.x)
        gradient, = torch.autograd.grad(logits.amax(1).sum(), kept[0])
        with torch.no_grad():
            grad_cam(kept[0], gradient, self.x.shape[2:])
        handle.remove()
        for parameter in self.net.parameters():
            parameter.requires_grad_(True)

    def gradcam_full(self):
        """Forward and full backward hook, backward through everything: the tutorials' way."""
        kept = {}
        handles = [
            self.layer.register_forward_hook(lambda m, i, o: kept.update(activation=o.detach())),
            self.layer.register_full_backward_hook(lambda m, gi, go: kept.update(gradient=go[0].detach())),
        ]
        self.net(self.x).amax(1).sum().backward()
        with torch.no_grad():
            grad_cam(kept["activation"], kept["gradient"], self.x.shape[2:])
        for handle in handles:
            handle.remove()
        self.net.zero_grad(set_to_none=True)

    def train(self):
        self.net.train()
        torch.nn.functional.cross_entropy(self.net(self.x), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.net.eval()

    def times(self, task, repeat, warmup):
        run = getattr(self, task)
        measured = []
        for i in range(warmup + repeat):
            start = time.perf_counter()
            run()
            if i >= warmup:
                measured.append((time.perf_counter() - start) * 1e3)
        return measured


# Task -> arguments of `grapnel bench`.
TASKS = {
    "infer": ["--task", "infer"],
    "gradcam_to_layer": ["--task", "gradcam"],
    "gradcam_full": ["--task", "gradcam", "--full-backward"],
    "train": ["--task", "train"],
}


def grapnel_times(options, task):
    command = [options.grapnel, "bench", "--model", options.model, "--batch", str(options.batch), "--size",
               str(options.size), "--threads", str(options.threads), "--repeat", str(options.repeat), "--warmup",
               str(options.warmup), "--json", *TASKS[task]]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["times_ms"]


def compare(options, task, sides):
    """Times of each contestant, a list a round."""
    rounds = {name: [] for name in ["grapnel", *sides]}
    for number in range(options.rounds):
        names = list(rounds)
        if number % 2:
            names.reverse()
        for name in names:
            if name == "grapnel":
                rounds[name].append(grapnel_times(options, task))
            else:
                rounds[name].append(sides[name].times(task, options.repeat, options.warmup))
    return rounds


def print_rows(task, rounds):
    ours = [statistics.median(times) for times in rounds["grapnel"]]
    for name, lists in rounds.items():
        times = [t for times in lists for t in times]
        ratios = [statistics.median(theirs) / mine for theirs, mine in zip(lists, ours)]
        ratio = "" if name == "grapnel" else (
            f"{statistics.median(ratios):.2f} ({quantile(ratios, 0.1):.2f} to {quantile(ratios, 0.9):.2f})")
        print(f"| {task} | {name} | {statistics.median(times):.2f} | {quantile(times, 0.1):.2f} | "
              f"{quantile(times, 0.9):.2f} | {ratio} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grapnel", default="build/release/tools/grapnel", help="the program")
    parser.add_argument("--model", default="resnet18", help="resnet18, resnet34 or vgg16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--repeat", type=int, default=8, help="timed runs a turn")
    parser.add_argument("--warmup", type=int, default=3, help="runs before them in each turn")
    parser.add_argument("--tasks", default="infer,gradcam_to_layer,gradcam_full", help=", ".join(TASKS))
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    for task in tasks:
        if task not in TASKS:
            parser.error(f"no task {task}; there are {', '.join(TASKS)}")
    if options.batch != 1 and "gradcam_to_layer" in tasks:
        parser.error("grapnel explains one picture at a time: gradcam_to_layer needs --batch 1")

    torch.set_num_threads(options.threads)
    layer = "features.29" if options.model == "vgg16" else "layer4"
    sides = {name: Torch(options.model, layer, options.batch, options.size, channels_last)
             for name, channels_last in (("torch nchw", False), ("torch channels_last", True))}
    print(f"{options.model}, batch {options.batch}, {options.size}x{options.size}, {options.threads} threads, "
          f"{options.rounds} rounds of {options.repeat}, torch {torch.__version__} eager\n")
    print("| task | | median ms | p10 | p90 | torch / grapnel |\n|---|---|---|---|---|---|")
    for task in tasks:
        print_rows(task, compare(options, task, sides))


if __name__ == "__main__":
    main()
