"""How far everybody's results are from float64's: relative L2 errors, and whether the classes are the same.

    python -m compare.agree NET SIZE THREADS FOLDER ENGINE...
    python -m compare.agree start FOLDER ENGINE...

Grapnel's results lie in FOLDER already, written by `grapnel run`. Prints {ENGINE: {"logits", "top1", "input_gradient",
"step_median", "step"}, "Grapnel": {..., "layers": {NAME: [its error, PyTorch's]}}} without what an engine cannot do;
with "start" the first two of what cold processes wrote.
"""
import copy
import json
import os
import statistics
import struct
import sys
from pathlib import Path

import numpy

from compare import engines
from compare.contestants import GRAPNEL


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = numpy.frombuffer(data[8 + length + begin:8 + length + end], "<f4")
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def relative(value, wanted):
    return float(numpy.linalg.norm(numpy.ravel(value.astype("f8") - wanted)) / numpy.linalg.norm(numpy.ravel(wanted)))


class Reference:
    def __init__(self, folder):
        stored = numpy.load(folder / "reference.npz")
        self.logits, self.input_gradient = stored["logits"], stored["input_gradient"]
        self.target, self.train = int(stored["target"]), bool(stored["train"])
        self.step = {name[len("step."):]: stored[name] for name in stored.files if name.startswith("step.")}

    def errors(self, logits, input_gradient=None, step=None):
        """Of all pictures, or of the logits of the first ones."""
        wanted = self.logits[:len(logits)]
        found = {"logits": relative(logits, wanted), "top1": bool((logits.argmax(1) == wanted.argmax(1)).all())}
        if input_gradient is not None:
            # Pictures are independent: the median passes over one with a ReLU on the brink.
            found["input_gradient"] = statistics.median(map(relative, input_gradient, self.input_gradient))
        if step is not None:
            # A ReLU on the brink disturbs all parameters before it, so the typical one is told too.
            found["step_median"] = statistics.median(relative(step[name], self.step[name]) for name in self.step)
            found["step"] = relative(*(numpy.concatenate([side[name].ravel() for name in self.step])
                                       for side in (step, self.step)))
        return found


def layer_errors(net, x, folder):
    """{NAME: [Grapnel's error, PyTorch's in float32]} of each convolution and fully connected layer alone.

    The input is the one it had in Grapnel: the float64 network goes on from what Grapnel's layers returned, and what
    was not captured, ReLUs and the sums of residuals, is rounded as in float32.
    """
    import torch

    module, found = engines.torchvision_net(net, folder / "weights.pth").double(), {}

    def compare(name, theirs):
        def hook(layer, inputs, output):
            captured = numpy.load(folder / "layers" / f"{name}.npy")
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                pair = captured, theirs(inputs[0].float()).numpy()
                found[name] = [relative(value, output.numpy()) for value in pair]
            return torch.from_numpy(captured).double()

        return hook

    for path in (folder / "layers").iterdir():
        layer = module.get_submodule(path.stem)
        theirs = copy.deepcopy(layer).float()
        layer.register_forward_pre_hook(lambda layer, inputs: inputs[0].float().double())
        layer.register_forward_hook(compare(path.stem, theirs))
    with torch.inference_mode():
        module(torch.from_numpy(x).double())
    return found


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "start":
        folder = Path(sys.argv[2])
        reference = Reference(folder)
        found = {name: reference.errors(numpy.load(folder / f"start.{name}.npy")) for name in sys.argv[3:]}
        return print(json.dumps(found), file=answers)
    net, size, threads, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    x, labels = numpy.load(folder / "x.npy"), numpy.load(folder / "labels.npy")
    reference = Reference(folder)
    found = {GRAPNEL: reference.errors(numpy.load(folder / "grapnel.logits.npy"), numpy.load(folder / "grapnel.dx.npy"),
                                       read_safetensors(folder / "grapnel.step.safetensors"))}
    found[GRAPNEL]["layers"] = layer_errors(net, x, folder)
    for name in sys.argv[5:]:
        try:
            engine = getattr(engines, name)(engines.Case(net, "infer", len(x), size, threads, folder))
            results = [engine.logits(x)]
            if name in ("TorchEager", "TorchChannelsLast"):  # the others have no gradients
                results += [engine.input_gradient(x, reference.target),
                            engine.step_gradients(x, labels, reference.train)]
            found[name] = reference.errors(*results)
        except Exception as error:  # the timing tells why it is absent
            print(f"{name}: {error}", file=sys.stderr)
    print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main()
