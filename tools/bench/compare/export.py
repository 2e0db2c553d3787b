"""One set of weights in everybody's format, and what float64 says of them.

    python -m compare.export NET SIZE FOLDER [WEIGHTS.pth]

Writes into FOLDER: weights.pth, net.onnx, net.xml and net.bin (OpenVINO's), net.ncnn.*, a batch x.npy with labels.npy,
its first picture x1.npy, and reference.npz: the logits, the input's gradient of one class's logits, and the parameters'
gradients of a training step. Prints the engines of
engines.py whose format could not be written, {ENGINE: "why"}.
"""
import json
import os
import sys
from pathlib import Path

import numpy
import torch
import torchvision

from compare.engines import torchvision_net

BATCH = 7  # odd: the median over pictures is one of them


def random_net(net):
    """Seeded; batch norm gets statistics that differ from channel to channel, so that folding them is work."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(net, weights=None).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, low, high in ((layer.weight, 0.8, 1.2), (layer.bias, -0.1, 0.1),
                                      (layer.running_mean, -0.1, 0.1), (layer.running_var, 0.8, 1.2)):
                torch.nn.init.uniform_(tensor, low, high)
    return module


def write_onnx(module, x, folder):
    # The exporter that needs no further package.
    torch.onnx.export(module, (x,), str(folder / "net.onnx"), input_names=["x"], output_names=["logits"],
                      dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}}, dynamo=False)


def write_openvino(module, x, folder):
    import openvino

    openvino.save_model(openvino.convert_model(folder / "net.onnx"), folder / "net.xml", compress_to_fp16=False)


def write_ncnn(module, x, folder):
    import pnnx

    pnnx.export(module, str(folder / "net.pt"), x, fp16=False)
    if not (folder / "net.ncnn.bin").exists():
        raise RuntimeError("pnnx wrote no network")
    for leftover in [*folder.glob("net*pnnx*"), folder / "net.pt", folder / "net_ncnn.py"]:
        leftover.unlink(missing_ok=True)


def write_reference(net, x, labels, folder):
    """Float64 logits, gradients of the class that the first picture is taken for, and names of layers."""
    module = torchvision_net(net, folder / "weights.pth").double()
    x = x.double().requires_grad_()
    logits = module(x)
    target = int(logits[0].argmax())
    (input_gradient,) = torch.autograd.grad(logits[:, target].sum(), x)
    # VGG's dropout draws other random numbers in every engine, so its step is compared without.
    train = not any(isinstance(layer, torch.nn.Dropout) for layer in module.modules())
    module.train(train)
    loss = torch.nn.functional.cross_entropy(module(x.detach()), labels)
    step = torch.autograd.grad(loss, list(module.parameters()))
    layers = [name for name, layer in module.named_modules()
              if not list(layer.children()) and not isinstance(layer, (torch.nn.ReLU, torch.nn.Dropout))]
    numpy.savez(folder / "reference.npz", layers=layers, logits=logits.detach().numpy(), target=target, train=train,
                input_gradient=input_gradient.numpy(),
                **{"step." + name: g.numpy() for (name, _), g in zip(module.named_parameters(), step)})


def main():
    net, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # pnnx prints
    module = torchvision_net(net, sys.argv[4]) if len(sys.argv) > 4 else random_net(net)
    torch.save(module.state_dict(), folder / "weights.pth")
    torch.manual_seed(1)
    x, labels = torch.randn(BATCH, 3, size, size), torch.arange(BATCH) * 7
    numpy.save(folder / "x.npy", x.numpy())
    numpy.save(folder / "x1.npy", x[:1].numpy())
    numpy.save(folder / "labels.npy", labels.numpy())
    write_reference(net, x, labels, folder)
    absent = {}
    for engine, write in (("OnnxRuntime", write_onnx), ("OpenVino", write_openvino), ("Ncnn", write_ncnn)):
        try:
            write(module, x[:1], folder)
        except Exception as error:  # an exporter that does not work here takes one peer out, not all
            absent[engine] = f"{type(error).__name__}: {error}".splitlines()[0]
    print(json.dumps(absent), file=answers)


if __name__ == "__main__":
    main()
