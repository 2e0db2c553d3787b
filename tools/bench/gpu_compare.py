"""Times of `grapnel bench --device cuda` beside PyTorch's on the same GPU, in turns: gpu_compare.py GRAPNEL MODEL.

PyTorch runs eagerly in both memory formats, as a CUDA graph, and compiled (reduce-overhead); float32 and TF32. Medians of
rounds in alternation, with the 10th and 90th percentile of the ratio. Random weights: speed does not depend on them.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

from gpu_model import HOPPER, predicted_ms

try:
    import torch
    import torchvision
except ImportError as error:
    sys.exit(f"gpu_compare.py: {error}; install torch and torchvision for this python3")

ROUNDS, REPEAT, WARMUP = 7, 10, 5


class Grapnel:
    """One process that measures when it is asked to."""

    def __init__(self, program, model, task, batch, precision):
        command = [program, "bench", "--model", model, "--task", task, "--batch", str(batch), "--device", "cuda",
                   "--precision", precision, "--repeat", str(REPEAT), "--warmup", str(WARMUP), "--serve", "--json"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            sys.exit(2)  # it said why

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return statistics.median(json.loads(self.process.stdout.readline())["times_ms"])


class Torch:
    """A configuration of PyTorch; `make` gives a function that does the task once."""

    def __init__(self, make, precision):
        self.precision = precision
        self.choose()
        self.task = make()
        for _ in range(WARMUP):
            self.task()
        torch.cuda.synchronize()

    def choose(self):
        tf32 = self.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32

    def measure(self):
        self.choose()
        times = []
        for _ in range(REPEAT):
            start = time.perf_counter()
            self.task()
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)


def parts(model, batch, channels_last, training):
    net = getattr(torchvision.models, model)().cuda().train(training)
    x = torch.randn(batch, 3, 224, 224, device="cuda")
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return net, x


def infer(model, batch, channels_last=True, way="eager"):
    net, x = parts(model, batch, channels_last, False)
    if way == "compiled":
        net = torch.compile(net, mode="reduce-overhead")

    def task():
        with torch.inference_mode():
            return net(x)

    if way != "graph":
        return task
    for _ in range(3):
        task()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        task()
    return graph.replay


def train(model, batch):
    net, x = parts(model, batch, True, True)
    labels = torch.arange(batch, device="cuda") % 1000
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)

    def task():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    return task


def contest(program, model, task, batch, precision, ways):
    ours = Grapnel(program, model, task, batch, precision)
    theirs = {name: Torch(make, precision) for name, make in ways.items()}
    own, others = [], {name: [] for name in theirs}
    for _ in range(ROUNDS):
        own.append(ours.measure())
        for name, way in theirs.items():
            others[name].append(way.measure())
    ours.process.stdin.close()
    eager, graph = predicted_ms(HOPPER, precision, model, task, batch)
    predicted = graph if task == "infer" else eager
    for name, times in others.items():
        ratios = sorted(b / a for a, b in zip(own, times))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        print(f"| {model}, {task}, batch {batch}, {precision} | {name} | {statistics.median(own):.3f} "
              f"| {predicted:.3f} | {statistics.median(times):.3f} | {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grapnel")
    parser.add_argument("model", choices=["resnet18", "resnet34", "vgg16"])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_compare.py: PyTorch sees no CUDA device")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    print("| | PyTorch | Grapnel, ms | predicted for an H100 (gpu_predict.py) | PyTorch, ms | its time / Grapnel's (p10 to p90) |"
          "\n|---|---|---|---|---|---|")
    for precision in ["fp32", "tf32"]:
        for batch in [1, 256]:
            ways = {
                "eager": lambda b=batch: infer(options.model, b, False),
                "channels last": lambda b=batch: infer(options.model, b),
                "CUDA graph": lambda b=batch: infer(options.model, b, way="graph"),
                "compiled": lambda b=batch: infer(options.model, b, way="compiled"),
            }
            contest(options.grapnel, options.model, "infer", batch, precision, ways)
        contest(options.grapnel, options.model, "train", 128, precision,
                {"channels last, fused SGD": lambda: train(options.model, 128)})


if __name__ == "__main__":
    main()
