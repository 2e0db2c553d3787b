"""Writes NET.txt for each network: torchvision's modules and state, in its order. Needs torch and torchvision.

module PATH TYPE          every named module ("." is the root)
state NAME DTYPE SHAPE    every entry of the state dict; SHAPE as 64x3x7x7, "scalar" for rank 0
"""
import pathlib

import torch
import torchvision

here = pathlib.Path(__file__).parent
for name in ("resnet18", "resnet34", "vgg16"):
    with torch.device("meta"):
        net = torchvision.models.get_model(name, weights=None)
    lines = [f"# torch {torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}"]
    lines += [f"module {path or '.'} {type(module).__name__}" for path, module in net.named_modules()]
    for key, value in net.state_dict().items():
        shape = "x".join(map(str, value.shape)) or "scalar"
        lines.append(f"state {key} {str(value.dtype).removeprefix('torch.')} {shape}")
    (here / f"{name}.txt").write_text("\n".join(lines) + "\n")
