"""Who takes part in which task. No imports of any peer: this is read before there is an environment."""
from dataclasses import dataclass, replace

GRAPNEL = "Grapnel"
NETS = ("resnet18", "resnet34", "vgg16")
TASKS = ("infer", "gradcam", "backward", "train", "start")
CAM_LAYER = {"resnet18": "layer4", "resnet34": "layer4", "vgg16": "features.29"}


@dataclass(frozen=True)
class Contestant:
    """One configuration of a peer; `engine` and `work` are a class of engines.py and its method, or "start"."""

    peer: str
    configuration: str
    engine: str
    work: str

    @property
    def name(self):
        return f"{self.peer}, {self.configuration}" if self.configuration else self.peer


def _layouts(peer, work):
    return [Contestant(peer, "NCHW", "TorchEager", work), Contestant(peer, "channels last", "TorchChannelsLast", work)]


_INFER = _layouts("PyTorch", "infer") + [
    Contestant("PyTorch", "frozen NCHW", "TorchFrozen", "infer"),
    Contestant("PyTorch", "frozen channels last", "TorchFrozenChannelsLast", "infer"),
    Contestant("ONNX Runtime", "", "OnnxRuntime", "infer"),
    Contestant("OpenVINO", "", "OpenVino", "infer"),
    Contestant("ncnn", "", "Ncnn", "infer"),
]
_COMPILED = Contestant("PyTorch", "torch.compile", "TorchCompiled", "infer")
_PEERS = {
    "infer": _INFER,
    # Grapnel's one way against both of PyTorch's: what tutorials teach, and the least that PyTorch has to do.
    "gradcam": _layouts("PyTorch tutorial", "gradcam_full") + _layouts("PyTorch to the layer", "gradcam"),
    "backward": _layouts("PyTorch", "backward"),
    "train": _layouts("PyTorch", "train"),
    # A cold process that loads the network and answers once: from the .pth, or from a peer's own file.
    "start": [replace(peer, work="start") for peer in [_INFER[0]] + _INFER[4:]],
}


def peers_of(task, with_compile):
    return _PEERS[task] + ([_COMPILED] if with_compile and task == "infer" else [])
