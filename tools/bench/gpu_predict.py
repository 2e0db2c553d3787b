"""What the CUDA kernels should take on an H100, from an analytic model: predicted, never run.

  python3 tools/bench/gpu_predict.py [--out kernels/cuda_predicted.md] [--json]

A kernel takes as long as the slowest of: its multiprocessors' clocks (tiles in whole waves), what goes through L2, and what
goes through memory; plus its start. The launches are those of kernels/gemm and kernels/conv2d. Fails (exit code 1) if the
multiply-adds of a network are not what they must be.
"""
import argparse
import dataclasses
import json
import math
import pathlib
import statistics
import sys

SMS, CLOCK = 132, 1755.0  # multiprocessors; MHz held under load (boost is 1980)
MACS = {"fp32": 128, "tf32": 1024, "bf16": 2048}  # a clock and multiprocessor
CEILING = {"fp32": 0.87, "tf32": 0.86, "bf16": 0.83}  # of those, what a GEMM of 8192^3 reached: 51.7, 410, 791 TFLOP/s
MEMORY, L2 = 3.0e6, 9.0e6  # bytes a microsecond: a measured copy; 5120 bytes a clock, as documented for A100
CACHED = 30e6  # activations of a kernel up to this many bytes are still in the 50 MB L2
SHARED = 128  # bytes of shared memory a clock, read by wgmma or written by copies
START, GAP = 2.0, 1.0  # us: a kernel's start and end; between two kernels of one CUDA graph
HOST = 5.0  # us of the CPU for one eager launch, with the engine's share
COPY_SLOTS, OPERAND_SLOTS = 25, 7  # instructions: a cp.async with its addresses; fetching and rounding an mma.sync operand


@dataclasses.dataclass(frozen=True)
class Variant:
    """Kernels for tensor cores in TF32 and bfloat16; float32 runs in the tiled kernels of all variants."""
    name: str
    says: str
    wgmma: bool = True
    widths: tuple = (64, 128)  # of tiles with 128 rows
    together: int = 1  # blocks of a cluster, which fetch one operand once
    ends: int = 3000  # clocks of a tile in which nothing is multiplied: its first copies, its results
    fold: int = 200  # clocks for every 8 steps, in which sums are added to those before
    whole_waves: bool = False  # a long sum is split as suits the multiprocessors, not by the rule of the code
    bf16_stored: bool = False  # activations are bfloat16 in memory; else converted before each product
    wgrad: bool = False  # weight gradients run here, too
    any_shape: bool = False  # 3 channels and strided input gradients, too


TILED = Variant("tiled", "64x64 and 128x128, `mma.sync`, every architecture", wgmma=False)
HOPPER = Variant("sm_90a", "128x128 and 128x64, TMA and wgmma, as kernels/gemm/hopper.cuh")
CUDNN = Variant("cuDNN-like", "128x256 in clusters of 2, persistent, bfloat16 in memory", widths=(64, 128, 256), together=2,
                ends=1500, fold=0, whole_waves=True, bf16_stored=True, wgrad=True, any_shape=True)
CHANGES = {"weight gradients on wgmma": {"wgrad": True}, "wide tiles, clusters of 2": {"widths": (64, 128, 256), "together": 2},
           "bfloat16 in memory": {"bf16_stored": True}, "persistent: tiles end while others multiply": {"ends": 1500, "fold": 0},
           "splits in whole waves": {"whole_waves": True}, "stem and strided input gradients on wgmma": {"any_shape": True}}

ASSUMPTIONS = """\
| kernel | registers | shared memory | blocks an SM | limit in the model |
|---|---|---|---|---|
| tiled 64x64 | up to 128 (launch bounds) | 29 KB, 3 stages of k = 16 | 2 | instructions issued: 7 an operand of `mma.sync` (a read, six to round), 25 a copy; 80 % of issue slots used (60 % with one block), FMAs 90 % |
| tiled 128x128, wgrad 128x64 | up to 255 | 57, 39 KB | 1 | the same |
| sm_90a 128x128, 128x64 | 168 at start, then 40 and 232 | 192 KB, 6 or 8 stages of 128 bytes | 1 | the GEMM ceiling, 128 bytes of shared memory a clock, L2; 3000 clocks a tile for first copies and results, 200 every 8 steps |
| cuDNN-like 128x256 | 232 | 192 KB | 1 | the same without the fold; operands shared by 2 blocks, 1500 clocks a tile |"""

# Measured on an H100 80GB SXM with PyTorch 2.11 and cuDNN 9.19: eager, eager channels last, CUDA graph, torch.compile; ms.
PYTORCH = {
    ("resnet18", 1): {"fp32": (1.96, 2.28, 1.27, None), "tf32": (3.19, 2.12, 0.436, 0.272), "bf16": (3.72, 2.89, 0.380, 0.212)},
    ("resnet18", 32): {"fp32": (4.44, 5.03, 4.69, None), "tf32": (3.22, 3.75, 1.50, None), "bf16": (2.67, 2.28, 1.08, None)},
    ("resnet18", 256): {"fp32": (24.9, 27.3, 26.9, None), "tf32": (13.8, 10.1, 10.0, 6.87), "bf16": (10.2, 7.01, 6.91, 4.67)},
    ("resnet34", 1): {"fp32": (2.55, 3.22, 2.41, None), "tf32": (5.03, 3.74, 0.750, None), "bf16": (5.79, 5.48, 0.716, None)},
    ("resnet34", 256): {"fp32": (39.7, 44.3, 43.9, None), "tf32": (21.3, 15.5, 15.3, None), "bf16": (15.0, 9.99, 9.76, None)},
    ("vgg16", 1): {"fp32": (1.99, 2.16, 2.06, None), "tf32": (1.91, 1.58, 0.651, 0.502), "bf16": (1.70, 1.23, 0.473, 0.329)},
    ("vgg16", 32): {"fp32": (23.4, 25.5, 25.4, None), "tf32": (8.42, 6.52, 6.47, None), "bf16": (5.87, 4.35, 4.28, None)},
    ("vgg16", 256): {"fp32": (156, 171, 171, None), "tf32": (63.1, 49.1, 49.1, 35.4), "bf16": (43.6, 32.5, 32.5, 19.1)}}
# A training step at batch 128: eager, channels last with a fused optimiser, torch.compile.
PYTORCH_STEP = {"resnet18": {"fp32": (46.2, 45.2, None), "tf32": (27.0, 16.8, 16.7), "bf16": (24.4, 14.1, 11.2)},
                "vgg16": {"fp32": (198, None, None), "tf32": (101, 76.3, 62.8), "bf16": (60.8, 40.0, 28.8)}}
# cuDNN at batch 64, channels last: channels in, out, size of the picture: forward, dgrad, wgrad in TFLOP/s.
CUDNN_MEASURED = {
    "tf32": {(64, 64, 56): (127, 163, 93), (128, 128, 28): (189, 222, 143), (256, 256, 14): (284, 262, 141),
             (512, 512, 7): (289, 264, 160), (64, 64, 224): (226, 215, 107), (128, 128, 112): (359, 328, 211),
             (256, 256, 56): (409, 388, 185), (512, 512, 28): (419, 411, 221)},
    "bf16": {(64, 64, 56): (320, 239, 206), (128, 128, 28): (286, 262, 209), (256, 256, 14): (308, 276, 359),
             (512, 512, 7): (483, 406, 222), (64, 64, 224): (467, 472, 489), (128, 128, 112): (703, 713, 722),
             (256, 256, 56): (777, 792, 739), (512, 512, 28): (804, 780, 743)}}
PASSES = ("forward", "dgrad", "wgrad")
PRECISIONS = ("fp32", "tf32", "bf16")
MULTIPLY_ADDS = {"resnet18": 1.814, "resnet34": 3.664, "vgg16": 15.470}  # G


@dataclasses.dataclass(frozen=True)
class Layer:
    kind: str  # conv, max, average, linear
    c: int
    k: int
    size: int = 1  # of the input
    r: int = 1
    stride: int = 1
    residual: bool = False

    @property
    def out(self):
        return 1 if self.kind == "average" else (self.size - 1) // self.stride + 1

    def macs(self, batch=1):
        return batch * self.out ** 2 * self.k * self.c * self.r ** 2 if self.kind in ("conv", "linear") else 0

    def __str__(self):
        return {"conv": f"{self.c} to {self.k} @ {self.size}, {self.r}x{self.r}" + (" stride 2" if self.stride > 1 else ""),
                "max": f"max pool @ {self.size}", "average": "average pool", "linear": f"linear {self.c} to {self.k}"}[self.kind]


def resnet(blocks):
    layers, c, size = [Layer("conv", 3, 64, 224, 7, 2), Layer("max", 64, 64, 112, 3, 2)], 64, 56
    for stage, count in enumerate(blocks):
        k = 64 << stage
        for block in range(count):
            stride = 2 if block == 0 and stage else 1
            layers.append(Layer("conv", c, k, size, 3, stride))
            if stride == 2:
                layers.append(Layer("conv", c, k, size, 1, 2))
            size //= stride
            layers.append(Layer("conv", k, k, size, 3, 1, True))
            c = k
    return layers + [Layer("average", 512, 512, 7), Layer("linear", 512, 1000)]


def vgg():
    layers, c, size = [], 3, 224
    for k, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers.append(Layer("conv", c, k, size, 3))
            c = k
        layers.append(Layer("max", c, c, size, 2, 2))
        size //= 2
    return layers + [Layer("linear", 25088, 4096), Layer("linear", 4096, 4096), Layer("linear", 4096, 1000)]


NETS = {"resnet18": resnet((2, 2, 2, 2)), "resnet34": resnet((3, 4, 6, 3)), "vgg16": vgg()}


def up(a, b):
    return -(-a // b)


def stream(bytes_moved):
    """A kernel that only reads and writes."""
    return START + bytes_moved / (L2 / 2 if bytes_moved <= CACHED else MEMORY)


def run_split(blocks, splits, clocks, through_l2, weights, activations, sums):
    """Times of the product's kernel and, if its sums are split, of the one that adds them."""
    partial = 4 * sums * splits if splits > 1 else 0
    memory = weights + (activations if activations > CACHED else 0)
    product = START + max(up(blocks, SMS) * clocks / CLOCK, (through_l2 + partial) / L2, memory / MEMORY)
    return [product, stream(partial + 4 * sums)] if splits > 1 else [product]


def tiled(precision, m, n, k, width, wide, weights, activations):
    """run_precisely and run_product."""
    rows, columns = (128, wide) if width == 4 and m > 64 and n > wide // 2 and up(m, 128) * up(n, wide) >= 128 else (64, 64)
    tiles = up(m, rows) * up(n, columns)
    splits = min(max((255 + tiles) // tiles, up(k, 8192), 1), max(1, k // 128))
    steps, blocks = up(up(k, splits), 16), tiles * splits
    # Issue slots of one of eight warps, two to a scheduler, for a step of 16 k.
    down, across = rows // 2, columns // 4
    copies = COPY_SLOTS * (rows + columns) * 16 / width / 256
    if precision == "fp32":
        slots, used = down * across // 2 + 8 * (down // 8 + across // 8) + copies, 0.9
    else:
        deep = 8 if precision == "tf32" else 16
        products = (down // 16) * (across // 8) * 16 // deep
        slots, used = products + OPERAND_SLOTS * (down + across) * 16 // 32 + copies, 0.8 if rows == 64 and blocks > SMS else 0.6
    clocks = max(2 * slots / used, rows * columns * 16 / MACS[precision] / 0.6)  # mma.sync: 60 % of wgmma's peak
    ends = 1500 if rows == 64 else 3000
    return run_split(blocks, splits, steps * clocks + ends, blocks * steps * 64 * (rows + columns), weights, activations, m * n)


def on_wgmma(variant, precision, m, n, taps, c, weights, activations, half=False):
    """run_hopper_product in the width of the code, or for more than 128 columns in the better of two. `half`: TF32 wants its
    operands along k, so its weight gradient has half the rate."""
    size = 2 if precision == "bf16" else 4
    steps = taps * up(c * size, 128)
    best = None
    for width in [w for w in variant.widths if w == 64 and n <= 64 or w == 128 and n > 64 or w == 256 and n > 128]:
        tiles = up(m, 128) * up(n, width)
        most = max(1, steps // 8)
        multiply = 128 * width * (128 // size) / MACS[precision] / CEILING[precision] * (2 if half else 1)
        # Two warpgroups, 4 times a step, read 64 rows and all columns of 32 bytes; copies write a stage.
        shared = (8 * 32 * (64 + width) + 128 * (128 + width)) / SHARED
        fetched = tiles * steps * 128 * (128 + width) * (1 + 1 / variant.together) / 2
        for splits in range(1, min(most, 128) + 1) if variant.whole_waves else [min((127 + tiles) // tiles, most)]:
            clocks = up(steps, splits) * (max(multiply, shared) + variant.fold / 8) + variant.ends
            times = run_split(tiles * splits, splits, clocks, fetched, weights, activations, m * n)
            best = times if best is None or sum(times) < sum(best) else best
    return best


def conv(variant, precision, layer, batch, which="forward", more=0):
    """The kernels of one pass of a convolution or linear layer; `more` bytes are read by its epilogue."""
    pixels_in, pixels_out = batch * layer.size ** 2, batch * layer.out ** 2
    taps, size = layer.r ** 2, 2 if precision == "bf16" and variant.bf16_stored else 4
    x, y, w = size * pixels_in * layer.c, size * pixels_out * layer.k, 4 * taps * layer.c * layer.k
    m, n, c, read = {"forward": (pixels_out, layer.k, layer.c, x), "dgrad": (pixels_in, layer.c, layer.k, y),
                     "wgrad": (layer.k, taps * layer.c, pixels_out, x + y)}[which]
    piece = 4 if precision == "tf32" else 8
    fits = c >= 4 * piece and n >= 32 and (which != "dgrad" or layer.stride == 1)
    if layer.kind == "linear":
        fits = fits and which == "forward" and m >= 64
    suits = variant.any_shape or (fits and (which != "wgrad" or variant.wgrad))
    if not (variant.wgmma and precision != "fp32" and suits):
        k = pixels_out if which == "wgrad" else taps * c
        return tiled(precision, m, n, k, 4 if layer.c % 4 == 0 else 1,
                     64 if which == "wgrad" and layer.kind == "conv" else 128, w, x + y + more)
    converted = precision == "bf16" and not variant.bf16_stored
    conversion = [stream(read * 1.5)] if converted else []
    activations = x + y + more - (read / 2 if converted else 0)
    if which == "dgrad":
        taps = taps / layer.stride ** 2  # by phases
    times = on_wgmma(variant, precision, m, n, 1 if which == "wgrad" else math.ceil(taps), c, w, activations,
                     which == "wgrad" and precision == "tf32")
    return conversion + times


def infer(variant, precision, net, batch):
    """[(layer, times of its kernels)]"""
    size = 2 if precision == "bf16" and variant.bf16_stored else 4
    result = []
    for layer in NETS[net]:
        y = size * batch * layer.out ** 2 * layer.k
        if layer.kind in ("conv", "linear"):
            times = conv(variant, precision, layer, batch, more=y if layer.residual else 0)
            if layer.kind == "conv" and net != "vgg16":
                times = [stream(6 * 4 * layer.k)] + times  # batch norm's scale and shift
        else:
            times = [stream(y + size * batch * layer.size ** 2 * layer.c)]
        result.append((layer, times))
    return result


def step(variant, precision, net, batch):
    """{pass: times} of forward, backward and SGD with momentum. ReLU's mask goes with an input gradient; where a shortcut ends,
    gradients are added and masked in passes of their own."""
    size = 2 if precision == "bf16" and variant.bf16_stored else 4
    times = {name: [] for name in (*PASSES, "batch norm", "pools, additions", "weights packed", "SGD")}
    for i, layer in enumerate(NETS[net]):
        x, y = (size * batch * s ** 2 * c for s, c in ((layer.size, layer.c), (layer.out, layer.k)))
        if layer.kind not in ("conv", "linear"):
            times["pools, additions"] += [stream(x + 1.25 * y), stream(x + 1.25 * y)]
            continue
        w = 4 * layer.r ** 2 * layer.c * layer.k
        for which in PASSES:
            if i or which != "dgrad":
                times[which] += conv(variant, precision, layer, batch, which)
        times["SGD"] += [stream(5 * w)]
        if layer.kind == "conv":
            times["weights packed"] += [stream(2 * w)] * (2 if i else 1)
        if layer.kind == "conv" and net != "vgg16":
            small = stream(100 * layer.k)
            # moments, running averages, scale and shift, the map; dots, factors, the blend; SGD of weight and bias
            times["batch norm"] += [stream(y), small, small, small, small, stream(2 * y + (y if layer.residual else 0))]
            times["batch norm"] += [stream(2 * y), small, small, stream(3 * y)]
            times["SGD"] += [small, small]
        else:
            times["pools, additions"] += [stream(y)]  # the bias's gradient
            times["SGD"] += [START]
        if layer.residual:
            times["pools, additions"] += [stream(3 * y), stream(3 * y)]
    return times


def totals(kernels):
    """(eager, one graph) in ms."""
    device = sum(kernels) + GAP * len(kernels)
    return max(device, HOST * len(kernels)) / 1e3, device / 1e3


def predicted_ms(variant, precision, net, task, batch):
    """(eager, one graph)"""
    if task == "train":
        return totals(sum(step(variant, precision, net, batch).values(), []))
    return totals([t for _, times in infer(variant, precision, net, batch) for t in times])


def tflops(variant, precision, layer, which):
    return 2 * layer.macs(64) / sum(conv(variant, precision, layer, 64, which)) / 1e6


def figure(ms):
    return "" if ms is None else f"{ms:.3g}"


def table(title, text, header, rows):
    return {"title": title, "text": text, "header": header, "rows": rows}


def calibration():
    rows, errors = [], []
    for precision, layers in CUDNN_MEASURED.items():
        for shape, measured in layers.items():
            layer = Layer("conv", *shape, 3)
            off = [tflops(CUDNN, precision, layer, which) / m - 1 for which, m in zip(PASSES, measured)]
            errors += off
            ours = [tflops(HOPPER, precision, layer, which) for which in PASSES]
            rows.append([precision, str(layer), " / ".join(map(str, measured)),
                         " / ".join(f"{m * (1 + e):.0f} ({e:+.0%})" for m, e in zip(measured, off)),
                         " / ".join(f"{o:.0f} ({o / m:.0%})" for o, m in zip(ours, measured)),
                         " / ".join(f"{tflops(TILED, precision, layer, which):.0f}" for which in PASSES)])
    size = [abs(e) for e in errors]
    text = ("TFLOP/s of forward / dgrad / wgrad. The cuDNN-like variant shows how far to trust the model: its errors are in brackets; "
            f"half of them are below {statistics.median(size):.0%}, nine tenths below {sorted(size)[len(size) * 9 // 10]:.0%}, the worst is "
            f"{max(errors, key=abs):+.0%}. Where it is far too fast, the layers take 30 to 120 us and cuDNN chose kernels far below its best. "
            "For sm_90a, in brackets: share of cuDNN's measured speed, the conversion to bfloat16 included.")
    return table("Layers at batch 64 beside cuDNN", text,
                 ["", "layer", "cuDNN, measured", "cuDNN-like (error)", "sm_90a (of cuDNN)", "tiled"], rows)


def networks():
    rows = []
    for (net, batch), measured in PYTORCH.items():
        for precision in PRECISIONS:
            ours = [ms for variant in (TILED, HOPPER) for ms in predicted_ms(variant, precision, net, "infer", batch)]
            rows.append([net, batch, precision, *map(figure, ours), *map(figure, measured[precision])])
    return table("Inference, ms", "PyTorch's columns are measured. float32 runs in the tiled kernels everywhere. A launch is taken to cost "
                 f"{HOST:.0f} us of the CPU, two kernels of a graph lie {GAP:.0f} us apart; the engine makes no graphs yet.",
                 ["", "batch", "precision", "tiled, eager", "tiled, graph", "sm_90a, eager", "sm_90a, graph", "PyTorch eager",
                  "channels last", "+ graph", "compiled"], rows)


def steps():
    rows = []
    for net in NETS:
        for precision in PRECISIONS:
            ours = [figure(predicted_ms(variant, precision, net, "train", 128)[0]) for variant in (TILED, HOPPER)]
            parts = [figure(sum(times) / 1e3) for times in step(HOPPER, precision, net, 128).values()]
            rows.append([net, precision, *ours, *parts, *map(figure, PYTORCH_STEP.get(net, {}).get(precision, (None,) * 3))])
    return table("A training step at batch 128, ms", "The parts are of sm_90a. PyTorch's columns are measured, bf16 as autocast.",
                 ["", "precision", "tiled", "sm_90a", "forward", "dgrad", "wgrad", "batch norm", "pools, additions", "weights packed",
                  "SGD", "PyTorch eager", "channels last", "compiled"], rows)


def changes():
    cases = [("resnet18", "infer", 1, "tf32"), ("vgg16", "infer", 1, "tf32"), ("resnet18", "infer", 256, "bf16"),
             ("vgg16", "infer", 256, "bf16"), ("resnet18", "train", 128, "tf32"), ("vgg16", "train", 128, "tf32"),
             ("vgg16", "train", 128, "bf16")]
    variants = {"as it is": {}, **CHANGES, "all of these": {k: v for change in CHANGES.values() for k, v in change.items()}}
    rows = [[name, *(figure(predicted_ms(dataclasses.replace(HOPPER, **change), precision, net, task, batch)[1])
                     for net, task, batch, precision in cases)] for name, change in variants.items()]
    return table("What would change sm_90a most, ms in one graph", "Each change alone, then all together.",
                 ["", *(f"{net} {task} b{batch} {precision}" for net, task, batch, precision in cases)], rows)


def targets():
    rows = []

    def judge(target, case, ours, limit):
        verdict = "met" if ours[0] <= limit else "met with one graph" if ours[1] <= limit else "**missed**"
        rows.append([target, case, *map(figure, ours), figure(limit), verdict])

    for (net, batch), measured in PYTORCH.items():
        for precision in PRECISIONS:
            eager, last, _, compiled = measured[precision]
            ours = predicted_ms(HOPPER, precision, net, "infer", batch)
            if batch == 1:
                judge("batch 1: a fifth of PyTorch's better eager time", f"{net} {precision}", ours, min(eager, last) / 5)
                if compiled:
                    judge("batch 1: torch.compile", f"{net} {precision}", ours, compiled)
            elif batch == 256:
                judge("batch 256: PyTorch channels last", f"{net} {precision}", ours, last)
    for net, measured in PYTORCH_STEP.items():
        for precision, (eager, last, _) in measured.items():
            judge("training: 1.2 times PyTorch channels last" if last else "training: 1.2 times PyTorch eager",
                  f"{net} {precision}", predicted_ms(HOPPER, precision, net, "train", 128), 1.2 * (last or eager))
    for precision, layers in CUDNN_MEASURED.items():
        for i, which in enumerate(PASSES):
            deep = {shape: speeds[i] for shape, speeds in layers.items() if shape[0] >= 128}
            low = [f"{shape[0]} @ {shape[2]}" for shape, speed in deep.items()
                   if tflops(HOPPER, precision, Layer("conv", *shape, 3), which) < 0.8 * speed]
            rows.append(["80 % of cuDNN on 3x3 layers of 128 channels and more", f"{which} {precision}",
                         f"{len(deep) - len(low)} of {len(deep)} layers", "", "", f"**missed** on {', '.join(low)}" if low else "met"])
    return table("Targets, for sm_90a", "Times in ms; a prediction near its limit decides nothing.",
                 ["target", "case", "eager", "one graph", "limit", "by prediction"], rows)


def layers_of(net):
    distinct = {}
    for layer in NETS[net]:
        distinct[layer] = distinct.get(layer, 0) + 1
    times = {(p, b): dict(infer(HOPPER, p, net, b)) for p in PRECISIONS for b in (1, 32, 256)}
    rows = [[str(layer) + (", shortcut added" if layer.residual else ""), count,
             *(" / ".join(figure(sum(times[p, b][layer])) for b in (1, 32, 256)) for p in PRECISIONS)]
            for layer, count in distinct.items()]
    return table(f"Layers of {net}, us", "sm_90a, each layer with all its kernels, at batch 1 / 32 / 256.",
                 ["layer", "times", *PRECISIONS], rows)


def markdown(tables):
    lines = ["# The CUDA kernels on an H100: predicted, never run", "",
             "Written by `tools/bench/gpu_predict.py`, an analytic model: a kernel takes as long as the slowest of its multiprocessors'",
             "clocks in whole waves of tiles, its way through L2 and its way through memory, plus 2 us. Nothing of Grapnel in this file was",
             "measured. What is marked as measured is of PyTorch 2.11 and cuDNN 9.19 on an H100 80GB SXM.", "",
             "## Assumptions (predicted, never run)", "",
             f"{SMS} multiprocessors at {CLOCK:.0f} MHz; 51.7, 410 and 791 TFLOP/s for float32, TF32 and bfloat16 and 3.0 TB/s of memory, all measured;",
             "9 TB/s of L2, from 5120 bytes a clock as documented for A100. Activations of up to 30 MB a kernel are in L2.", "", ASSUMPTIONS, ""]
    for part in tables:
        lines += [f"## {part['title']} (predicted, never run)", "", part["text"], "", "| " + " | ".join(part["header"]) + " |",
                  "|---" * len(part["header"]) + "|", *("| " + " | ".join(map(str, row)) + " |" for row in part["rows"]), ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="a Markdown file to write")
    parser.add_argument("--json", action="store_true", help="print the tables as one JSON object")
    options = parser.parse_args()
    for net, expected in MULTIPLY_ADDS.items():
        found = sum(layer.macs() for layer in NETS[net]) / 1e9
        if round(found, 3) != expected:
            sys.exit(f"gpu_predict.py: {net} has {found:.3f} G multiply-adds, not {expected}")
    tables = [networks(), steps(), targets(), calibration(), changes(), *map(layers_of, NETS)]
    if options.out:
        options.out.write_text(markdown(tables))
    if options.json:
        print(json.dumps({"state": "predicted, never run", "tables": tables}, indent=1))
    elif not options.out:
        print(markdown(tables), end="")


if __name__ == "__main__":
    main()
