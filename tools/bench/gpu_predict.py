"""What the CUDA kernels should take on an H100, from the model in gpu_model.py: predicted, never run.

  python3 tools/bench/gpu_predict.py [--out kernels/cuda_predicted.md] [--json]

Fails (exit code 1) if the multiply-adds of a network, or how some products are tiled, are not what they must be.
"""
import argparse
import dataclasses
import json
import pathlib
import statistics
import sys

from gpu_model import CUDNN, GAP, HOPPER, HOST, NETS, OVERLAP, PASSES, PRECISIONS, SM_80, Layer, conv, infer, parts_left, predicted_ms, step, tiling_for

MULTIPLY_ADDS = {"resnet18": 1.814, "resnet34": 3.664, "vgg16": 15.470}  # G
# Width and splits that tests/cuda_host/hopper_gemm_test.cpp finds in the code, by precision, m, n and steps.
TILINGS = {("bf16", 3136, 256, 18): (128, 1), ("bf16", 3136, 256, 36): (128, 2), ("tf32", 3136, 256, 36): (128, 2),
           ("bf16", 784, 512, 72): (128, 4), ("bf16", 12544, 512, 72): (128, 1), ("fp32", 1 << 18, 256, 36): (128, 1),
           ("tf32", 1 << 18, 256, 72): (256, 1), ("bf16", 1 << 18, 200, 36): (256, 1), ("tf32", 196 * 128, 64, 72): (64, 1)}

CHANGES = {
    "clusters of 2": {"together": 2},
    "persistent: tiles end while others multiply": {"ends": 1500, "fold": 0}, "splits in whole waves": {"whole_waves": True}}

ASSUMPTIONS = """\
132 multiprocessors at 1755 MHz; 51.7, 410 and 791 TFLOP/s for float32, TF32 and bfloat16 and 3.0 TB/s of memory, all measured;
9 TB/s of L2, from 5120 bytes a clock as documented for A100: large layers of sm_90a stand and fall with it. Activations of up to 30 MB a kernel are in L2. A kernel starts and ends in 2 us.

| kernel | registers | shared memory | blocks an SM | what limits it in the model |
|---|---|---|---|---|
| sm_80, by FMAs: 64x64, 128x64 (wgrad), 128x128 | 91 to 128, 130, 147 to 168 | 30, 39, 60 KB, 3 stages of k = 16 | 2, 1, 1 | instructions, as counted in nvcc's output: 415, 720, 1195 a warp and step; 90 % of issue slots used |
| sm_80, by `mma.sync`: 64x64, 128x64, 128x128 | 128 to 144, 138 to 163, 220 to 246 | 24, 36, 48 KB, 3 stages of 64 bytes | 3, 3, 2 | `mma.sync`, at 62 % of the rate of `wgmma`; 128 bytes of shared memory a clock; instructions: for the 64 `mma.sync` of a warp's 64x64 in bfloat16 197 a step (238 of operands across, TF32 294 and 419); of the slowest 80 %, of one block alone two thirds of that |
| sm_90a 128x64 in one part | 80 | 96 KB, 4 stages of 128 bytes | 2 | as the next; of the 3000 clocks each block of two costs half |
| sm_90a 128x64, 128x128, 128x256 | 168 at start, then 40 and 232 | 192 to 216 KB, stages of 128 bytes | 1 | the GEMM ceiling; 128 bytes of shared memory a clock (57 %, 80 % and all of a tile's peak); L2; 3000 clocks a tile for first copies and results, 200 every 8 steps, or every step in float32, which takes six products of bfloat16 |
| cuDNN-like, up to 128x256 | 232 | 192 KB | 1 | the same without the 200; two blocks share an operand, 1500 clocks a tile; TF32 weight gradients at half the rate |"""

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


def tflops(variant, precision, layer, which):
    left = parts_left(variant, precision, layer, 64)
    more, given = left if which == "forward" else 0, left > 0 and which != "dgrad"
    return 2 * layer.macs(64) / sum(conv(variant, precision, layer, 64, which, more, given)) / 1e6


def figure(ms):
    return "" if ms is None else f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


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
                         " / ".join(f"{tflops(SM_80, precision, layer, which):.0f}" for which in PASSES)])
    size = [abs(e) for e in errors]
    text = ("TFLOP/s of forward / dgrad / wgrad. The cuDNN-like variant shows how far to trust the model: its errors are in brackets; "
            f"half of them are below {statistics.median(size):.0%}, nine tenths below {sorted(size)[len(size) * 9 // 10]:.0%}, the worst is "
            f"{max(errors, key=abs):+.0%}. Where it is far too fast, the layers take 30 to 120 us and cuDNN chose kernels far below its best. "
            "For sm_90a, in brackets: share of cuDNN's measured speed. In bfloat16 all operands are that in memory.")
    return table("Layers at batch 64 beside cuDNN", text,
                 ["", "layer", "cuDNN, measured", "cuDNN-like (error)", "sm_90a (of cuDNN)", "sm_80"], rows)


def networks():
    rows = []
    for (net, batch), measured in PYTORCH.items():
        for precision in PRECISIONS:
            ours = [ms for variant in (SM_80, HOPPER) for ms in predicted_ms(variant, precision, net, "infer", batch)]
            rows.append([net, batch, precision, *map(figure, ours), *map(figure, measured[precision])])
    return table("Inference, ms", "PyTorch's columns are measured. A launch is taken to cost "
                 f"{HOST:.0f} us of the CPU, two kernels of a graph lie {GAP:.0f} us apart, of sm_90a, whose launches overlap, {GAP - OVERLAP:.1f}; a `Plan` is one graph.",
                 ["", "batch", "precision", "sm_80, eager", "sm_80, graph", "sm_90a, eager", "sm_90a, graph", "PyTorch eager",
                  "channels last", "+ graph", "compiled"], rows)


def steps():
    rows = []
    for net in NETS:
        for precision in PRECISIONS:
            ours = [figure(predicted_ms(variant, precision, net, "train", 128)[0]) for variant in (SM_80, HOPPER)]
            parts = [figure(sum(times) / 1e3) for times in step(HOPPER, precision, net, 128).values()]
            rows.append([net, precision, *ours, *parts, *map(figure, PYTORCH_STEP.get(net, {}).get(precision, (None,) * 3))])
    return table("A training step at batch 128, ms", "The parts are of sm_90a. PyTorch's columns are measured, bf16 as autocast.",
                 ["", "precision", "sm_80", "sm_90a", "forward", "dgrad", "wgrad", "batch norm", "pools, additions", "weights packed",
                  "SGD", "PyTorch eager", "channels last", "compiled"], rows)


def changes():
    cases = [("resnet18", "infer", 1, "tf32"), ("vgg16", "infer", 1, "tf32"), ("resnet18", "infer", 256, "bf16"),
             ("vgg16", "infer", 256, "bf16"), ("resnet18", "train", 128, "tf32"), ("vgg16", "train", 128, "tf32"),
             ("vgg16", "train", 128, "bf16")]
    variants = {"as it is": {}, "launches that do not overlap": {"overlap": 0}, **CHANGES, "all of these": {k: v for change in CHANGES.values() for k, v in change.items()}}
    rows = [[name, *(figure(predicted_ms(dataclasses.replace(HOPPER, **change), precision, net, task, batch)[1])
                     for net, task, batch, precision in cases)] for name, change in variants.items()]
    return table("What would change sm_90a most, ms in one graph", "Each change alone; at the end all but the first together.",
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
             ASSUMPTIONS, ""]
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
    for product, expected in TILINGS.items():
        if tiling_for(*product) != expected:
            sys.exit(f"gpu_predict.py: a product {product} is tiled {tiling_for(*product)}, not {expected} as in the code")
    tables = [networks(), steps(), targets(), calibration(), changes(), *map(layers_of, NETS)]
    if options.out:
        options.out.write_text(markdown(tables))
    if options.json:
        print(json.dumps({"state": "predicted, never run", "tables": tables}, indent=1))
    elif not options.out:
        print(markdown(tables), end="")


if __name__ == "__main__":
    main()
