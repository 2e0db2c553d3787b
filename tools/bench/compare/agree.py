"""How far everybody's results are from float64's: relative L2 errors, and whether the classes are the same.

    python -m compare.agree NET SIZE THREADS FOLDER ENGINE...

Grapnel's results lie in FOLDER already, written by `grapnel run`. Prints {ENGINE: {"logits", "top1", "input_gradient",
"step_median", "step"}, "Grapnel": ...} without what an engine cannot do.
"""
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
        found = {"logits": relative(logits, self.logits),
                 "top1": bool((logits.argmax(1) == self.logits.argmax(1)).all())}
        if input_gradient is not None:
            # Pictures are independent: the median passes over one with a ReLU on the brink.
            found["input_gradient"] = statistics.median(map(relative, input_gradient, self.input_gradient))
        if step is not None:
            # A ReLU on the brink disturbs all parameters before it, so the typical one is told too.
            found["step_median"] = statistics.median(relative(step[name], self.step[name]) for name in self.step)
            found["step"] = relative(*(numpy.concatenate([side[name].ravel() for name in self.step])
                                       for side in (step, self.step)))
        return found


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    net, size, threads, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    x, labels = numpy.load(folder / "x.npy"), numpy.load(folder / "labels.npy")
    reference = Reference(folder)
    found = {GRAPNEL: reference.errors(numpy.load(folder / "grapnel.logits.npy"), numpy.load(folder / "grapnel.dx.npy"),
                                       read_safetensors(folder / "grapnel.step.safetensors"))}
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
