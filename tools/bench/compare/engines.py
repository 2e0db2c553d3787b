"""What the peers do, in their own terms. Each class is one way to run a network; importing this imports no peer.

An engine is made for a Case. Its methods without arguments are the tasks that are timed; logits, input_gradient and
step_gradients serve the comparison of results.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy

from compare.contestants import CAM_LAYER


@dataclass(frozen=True)
class Case:
    net: str
    work: str
    batch: int
    size: int
    threads: int
    folder: Path  # what export.py wrote for this net

    def input(self):
        if self.work == "start":
            return numpy.load(self.folder / "x1.npy")
        shape = (self.batch, 3, self.size, self.size)
        return numpy.random.default_rng(1).standard_normal(shape, dtype=numpy.float32)


def torchvision_net(net, weights):
    """The network in eval mode with the weights of a .pth file."""
    import torch
    import torchvision

    module = torchvision.models.get_model(net, weights=None)
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return module.eval()


class TorchEager:
    libraries = ("torch", "torchvision")
    channels_last = False

    def __init__(self, case):
        import torch

        self.torch = torch
        torch.set_num_threads(case.threads)
        self.layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.net = torchvision_net(case.net, case.folder / "weights.pth").to(memory_format=self.layout)
        self.x = self.tensor(case.input())
        self.layer = self.net.get_submodule(CAM_LAYER[case.net])
        if case.work == "gradcam_full" and hasattr(self.layer, "inplace"):
            self.layer.inplace = False  # PyTorch refuses a full backward hook on an in-place module
        if case.work in ("gradcam", "backward"):
            self.net.requires_grad_(False)  # nobody asks for the parameters' gradients
        if case.work == "train":
            self.net.train()
            self.labels = torch.arange(case.batch) % 1000
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def tensor(self, x):
        return self.torch.from_numpy(x).to(memory_format=self.layout)

    def infer(self):
        with self.torch.inference_mode():
            self.net(self.x)

    def _map(self, activation, gradient):
        with self.torch.no_grad():
            cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
            self.torch.nn.functional.interpolate(cam, size=self.x.shape[2:], mode="bilinear", align_corners=False)

    def gradcam(self):
        """The layer's output becomes a leaf, so that nothing before it is recorded."""
        kept = []

        def keep(module, inputs, output):
            kept.append(output.detach().requires_grad_())
            return kept[0]

        handle = self.layer.register_forward_hook(keep)
        logits = self.net(self.x)
        handle.remove()
        (gradient,) = self.torch.autograd.grad(logits.amax(1).sum(), kept[0])
        self._map(kept[0], gradient)

    def gradcam_full(self):
        """A forward and a full backward hook, and backward() through everything."""
        kept = {}
        handles = [
            self.layer.register_forward_hook(lambda m, i, o: kept.update(activation=o.detach())),
            self.layer.register_full_backward_hook(lambda m, gi, go: kept.update(gradient=go[0].detach())),
        ]
        self.net(self.x).amax(1).sum().backward()
        self._map(**kept)
        for handle in handles:
            handle.remove()
        self.net.zero_grad(set_to_none=True)

    def backward(self):
        x = self.x.detach().requires_grad_()
        self.torch.autograd.grad(self.net(x).amax(1).sum(), x)

    def train(self):
        self.torch.nn.functional.cross_entropy(self.net(self.x), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def logits(self, x):
        with self.torch.inference_mode():
            return self.net(self.tensor(x)).numpy()

    def input_gradient(self, x, target):
        x = self.tensor(x).requires_grad_()
        return self.torch.autograd.grad(self.net(x)[:, target].sum(), x)[0].numpy()

    def step_gradients(self, x, labels, train):
        """Every parameter's gradient of the cross entropy; in eval mode again afterwards."""
        self.net.train(train)
        loss = self.torch.nn.functional.cross_entropy(self.net(self.tensor(x)), self.torch.from_numpy(labels))
        gradients = self.torch.autograd.grad(loss, list(self.net.parameters()))
        self.net.eval()
        return {name: g.numpy() for (name, _), g in zip(self.net.named_parameters(), gradients)}


class TorchChannelsLast(TorchEager):
    channels_last = True


class TorchFrozen(TorchEager):
    def __init__(self, case):
        super().__init__(case)
        with self.torch.no_grad():
            traced = self.torch.jit.freeze(self.torch.jit.trace(self.net, self.x))
            self.net = self.torch.jit.optimize_for_inference(traced)


class TorchFrozenChannelsLast(TorchFrozen):
    channels_last = True


class TorchCompiled(TorchEager):
    channels_last = True

    def __init__(self, case):
        super().__init__(case)
        import torch._inductor.config

        torch._inductor.config.freezing = True  # folds batch norm and packs the weights, as the other engines do
        self.net = self.torch.compile(self.net)


class OnnxRuntime:
    libraries = ("onnxruntime",)

    def __init__(self, case):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = case.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        settings.add_free_dimension_override_by_name("batch", case.batch)
        self.session = onnxruntime.InferenceSession(
            str(case.folder / "net.onnx"), settings, providers=["CPUExecutionProvider"])
        self.x = case.input()

    def infer(self):
        self.logits(self.x)

    def logits(self, x):
        return self.session.run(None, {"x": x})[0]


class OpenVino:
    libraries = ("openvino",)

    def __init__(self, case):
        import openvino

        core = openvino.Core()
        model = core.read_model(case.folder / "net.xml")
        model.reshape([case.batch, 3, case.size, case.size])
        # On some CPUs it would otherwise compute in bfloat16.
        self.model = core.compile_model(model, "CPU", {
            "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": case.threads})
        self.request = self.model.create_infer_request()
        self.x = case.input()

    def infer(self):
        self.request.infer([self.x], share_inputs=True, share_outputs=True)

    def logits(self, x):
        return self.request.infer([x])[self.model.output(0)].copy()


class Ncnn:
    """One picture at a time: ncnn knows no batch."""

    libraries = ("ncnn",)

    def __init__(self, case):
        import ncnn

        self.ncnn = ncnn
        self.net = ncnn.Net()
        options = self.net.opt
        options.num_threads = case.threads
        options.use_vulkan_compute = False
        options.use_winograd_convolution = True
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        for load, kind in ((self.net.load_param, "param"), (self.net.load_model, "bin")):
            path = case.folder / f"net.ncnn.{kind}"
            if load(str(path)):
                raise RuntimeError(f"{path}: ncnn cannot load it")
        self.x = case.input()

    def infer(self):
        for picture in self.x:
            self._run(picture)

    def _run(self, picture):
        extractor = self.net.create_extractor()
        extractor.input("in0", self.ncnn.Mat(picture))
        return extractor.extract("out0")[1]

    def logits(self, x):
        return numpy.stack([numpy.array(self._run(picture)) for picture in x])
