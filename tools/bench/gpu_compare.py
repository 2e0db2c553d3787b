"""Times of `grapnel bench --device cuda` beside PyTorch's on the same GPU, in turns.

  python3 tools/bench/gpu_compare.py GRAPNEL MODEL [--seconds S]

Inference at batch 1 and 256, a Grad-CAM at batch 1 and a training step at batch 128, in TF32, bfloat16 and float32. PyTorch runs
eagerly, channels last, as a CUDA graph and compiled (reduce-overhead), with cuDNN's search for the fastest kernels. One row a case: medians
of the rounds with their 10th and 90th percentile, the prediction for an H100, and the time of PyTorch's fastest over Grapnel's in the
same round. Random weights: speed does not depend on them. What fails is told below the table. Exit code 2 without PyTorch, or
where Grapnel cannot run.
"""
import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import namedtuple

from gpu_model import HOPPER, predicted_ms

MODELS = {"resnet18": "layer4", "resnet34": "layer4", "vgg16": "features.29"}  # and where Grad-CAM looks
PRECISIONS = "tf32", "bf16", "fp32"
WAYS = "eager", "channels last", "CUDA graph", "compiled"
ROUNDS, REPEAT, WARMUP = 7, 10, 5


class Case(namedtuple("Case", "model task batch precision")):
    def __str__(self):
        return f"{self.task}, batch {self.batch}, {self.precision}"


def cases(model):
    return [Case(model, task, batch, precision) for precision in PRECISIONS
            for task, batch in (("infer", 1), ("infer", 256), ("gradcam", 1), ("train", 128))]


class Failure(Exception):
    pass


class Grapnel:
    """One process that measures when it is asked to."""

    def __init__(self, program, case):
        command = [program, "bench", "--model", case.model, "--task", case.task, "--batch", str(case.batch), "--device", "cuda",
                   "--precision", case.precision, "--repeat", str(REPEAT), "--warmup", str(WARMUP), "--serve", "--json"]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise Failure(f"{program} does not start: {error.strerror}") from error
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip().splitlines()
            raise Failure(said[-1] if said else f"grapnel ended with {self.process.wait()}")
        return json.loads(line)

    def measure(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer will say why
        return statistics.median(self.answer()["times_ms"])

    def end(self):
        self.process.communicate()


class Torch:
    """One configuration of PyTorch."""

    def __init__(self, torch, case, way):
        self.torch, self.tf32 = torch, case.precision == "tf32"
        self.choose()
        self.task = make_task(torch, case, way)
        for _ in range(WARMUP):
            self.task()
        torch.cuda.synchronize()

    def choose(self):
        backends = self.torch.backends
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = self.tf32
        backends.cudnn.benchmark = True

    def measure(self):
        self.choose()
        times = []
        for _ in range(REPEAT):
            start = time.perf_counter()
            self.task()
            self.torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)


def make_task(torch, case, way, device="cuda"):
    """A function that does the task once, in the fastest way that this configuration has."""
    import torchvision
    net = getattr(torchvision.models, case.model)().to(device).train(case.task == "train")
    x = torch.randn(case.batch, 3, 224, 224, device=device)
    if way != "eager":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if case.task == "train":
        return training(torch, net, x, case.precision, way)
    if case.precision == "bf16":
        net, x = net.bfloat16(), x.bfloat16()
    task = grad_cam(torch, net, x, MODELS[case.model]) if case.task == "gradcam" else inference(torch, net, x, way)
    return captured(torch, task) if way == "CUDA graph" else task


def inference(torch, net, x, way):
    if way == "compiled":
        net = torch.compile(net, mode="reduce-overhead")

    def task():
        with torch.no_grad() if way == "compiled" else torch.inference_mode():
            return net(x)

    return task


def grad_cam(torch, net, x, layer):
    """The gradient goes back to the layer only, whose output is a leaf."""
    net.requires_grad_(False)
    kept = []

    def cut(module, inputs, output):
        kept[:] = [output.detach().requires_grad_()]
        return kept[0]

    net.get_submodule(layer).register_forward_hook(cut)

    def task():
        score = net(x).amax(1).sum()
        gradient, = torch.autograd.grad(score, kept)
        heat = (gradient.mean((2, 3), keepdim=True) * kept[0].detach()).sum(1, keepdim=True).relu()
        return torch.nn.functional.interpolate(heat, size=x.shape[2:], mode="bilinear")

    return task


def training(torch, net, x, precision, way):
    labels = torch.arange(len(x), device=x.device) % 1000
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=way != "eager")
    if way == "compiled":
        net = torch.compile(net, mode="reduce-overhead")

    def task():
        if way == "compiled":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()

    return task


def captured(torch, task):
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            task()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        task()
    return graph.replay


def ways_of(case):
    """A training step as one graph is what `compiled` does; hooks as Grad-CAM's are not compiled."""
    without = {"train": "CUDA graph", "gradcam": "compiled"}.get(case.task)
    return [way for way in WAYS if way != without]


def why(error):
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def compete(program, torch, case):
    """({"Grapnel" or a way: times of the rounds}, {way: why it failed}). Whatever PyTorch throws, the others go on."""
    contestants, failed = {"Grapnel": Grapnel(program, case)}, {}
    for way in ways_of(case) if torch else []:
        try:
            contestants[way] = Torch(torch, case, way)
        except Exception as error:
            failed[way] = why(error)
    rounds = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name in list(rounds):
            try:
                rounds[name].append(contestants[name].measure())
            except Exception as error:
                if name == "Grapnel":
                    raise
                failed[name] = why(error)
                del rounds[name]
    contestants["Grapnel"].end()
    return rounds, failed


def spread(values, digits):
    """Median (p10 to p90)"""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{statistics.median(values):.{digits}g} ({low:.{digits}g} to {high:.{digits}g})"


def row(case, rounds):
    eager, graph = predicted_ms(HOPPER, case.precision, case.model, case.task, case.batch)
    own = rounds["Grapnel"]
    theirs = {way: statistics.median(rounds[way]) for way in WAYS if way in rounds}
    best = min(theirs, key=theirs.get, default=None)
    ratio = f"{spread([b / a for a, b in zip(own, rounds[best])], 3)}, {best}" if best else ""
    cells = [str(case), spread(own, 3), f"{graph if case.task == 'infer' else eager:.3g}",
             *(f"{theirs[way]:.3g}" if way in theirs else "" for way in WAYS), ratio]
    return "| " + " | ".join(cells) + " |"


def header(model):
    cells = [model, "Grapnel, ms", "predicted, H100", *(f"PyTorch {way}" for way in WAYS), "fastest of PyTorch / Grapnel"]
    return "| " + " | ".join(cells) + " |\n" + "|---" * len(cells) + "|"


def find_torch():
    """(torch or None, what the head of the table says of it)"""
    try:
        import torch
        import torchvision  # noqa: F401: needed later
    except ImportError as error:
        return None, f"no PyTorch here ({error}): Grapnel alone"
    if not torch.cuda.is_available():
        return None, f"PyTorch {torch.__version__} sees no CUDA device: Grapnel alone"
    return torch, f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"


def compare(program, model, seconds, compete_in=compete):
    """Prints the table; the exit code."""
    torch, about = find_torch()
    begin, rest, notes, rows = time.monotonic(), cases(model), [], 0
    while rest:
        if time.monotonic() - begin > seconds:
            notes.append(f"left out after {seconds:.0f} s: " + "; ".join(map(str, rest)))
            break
        case = rest.pop(0)
        try:
            rounds, failed = compete_in(program, torch, case)
        except Failure as failure:
            if rows == 0:
                return stop(failure)
            notes.append(f"{case}: {failure}")
            continue
        if rows == 0:
            print(f"{about}\n\n{header(model)}")
        rows += 1
        print(row(case, rounds), flush=True)
        notes += [f"{case}, {way}: {reason}" for way, reason in failed.items()]
        if torch:
            gc.collect()
            torch.compiler.reset()
            torch.cuda.empty_cache()
    print("\n".join(["", *notes]))
    return 0 if torch else stop("measured without PyTorch; install torch and torchvision for this python3")


def stop(reason):
    print(f"gpu_compare.py: {reason}", file=sys.stderr)
    return 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grapnel", help="the program")
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--seconds", type=float, default=480, help="start no further case after so long (480)")
    options = parser.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
    sys.exit(compare(options.grapnel, options.model, options.seconds))


if __name__ == "__main__":
    main()
