"""What must be there before anything runs: a Python environment with the peers, and the program."""
import json
import os
import shutil
import sys
from pathlib import Path

from compare.common import ROOT, Failure, progress, run

_CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
_NEEDED = ["torch", "torchvision", "numpy"]
_PEERS = ["onnx", "onnxruntime", "ncnn", "pnnx"]
_MAY_FAIL = ["openvino"]


def _has_index(python):
    """Whether pip was told where to look; then it is not told anything else."""
    text = run([python, "-m", "pip", "config", "list"], "pip")
    return "index" in text


def _install(python, packages):
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", *packages],
        f"no {packages[0]} from pip (does its index answer?)")


def _make_venv(folder):
    run([sys.executable, "-m", "venv", folder], "python3 -m venv")
    python = folder / "bin" / "python"
    progress("installing PyTorch, ONNX Runtime and ncnn ...")
    try:
        _install(python, _NEEDED + _PEERS + ([] if _has_index(python) else ["--extra-index-url", _CPU_WHEELS]))
    except Failure:
        shutil.rmtree(folder)  # half an environment would look like one to be used as it is
        raise
    for package in _MAY_FAIL:
        progress(f"installing {package} ...")
        try:
            _install(python, [package])
        except Failure:
            pass  # the table says that it is absent
    (folder / "complete").touch()


def python_with_peers(given, default):
    """The interpreter of the environment: an existing one as it is, or a new one with everything current."""
    folder = Path(given) if given else default
    python = folder / "bin" / "python"
    if given and python.exists() and not (folder / "complete").exists():
        run([python, "-c", "import " + ", ".join(_NEEDED)], f"{folder} cannot be used, remove it or name another")
    elif not (folder / "complete").exists():
        _make_venv(folder)
    return python


_VERSIONS = """
import importlib.metadata as metadata, json
found = {}
for name in ("torch", "torchvision", "onnxruntime", "ncnn", "openvino"):
    try:
        files = metadata.files(name) or []
        bytes = sum(f.size or 0 for f in files) or sum(p.stat().st_size for p in map(lambda f: f.locate(), files))
        found[name] = {"version": metadata.version(name), "mib": bytes / 2**20}
    except metadata.PackageNotFoundError:
        pass
import torch
found["torch"]["version"] = torch.__version__  # with the kind of build, "+cpu"
print(json.dumps(found))
"""


def installed(python):
    """Version and size of each peer's own package, without what it depends on."""
    return json.loads(run([python, "-c", _VERSIONS], "python"))


def program(given):
    """The program: the one given, or this tree's, built."""
    if given:
        if not Path(given).is_file():
            raise Failure(f"{given}: no such program")
        return Path(given).resolve()
    for tool, package in (("cmake", "cmake"), ("ninja", "ninja-build")):
        if not shutil.which(tool):
            raise Failure(f"no {tool} to build Grapnel with: install {package} (see tools/setup.sh), or name --grapnel")
    if not any(map(shutil.which, [os.environ.get("CXX", "c++"), "g++", "clang++"])):
        raise Failure("no C++ compiler to build Grapnel with: install g++ (see tools/setup.sh), or name --grapnel")
    progress("building Grapnel ...")
    run(["cmake", "--preset", "release"], "cmake", cwd=ROOT)
    run(["cmake", "--build", "--preset", "release", "--target", "grapnel_program"], "building Grapnel", cwd=ROOT)
    return ROOT / "build/release/tools/grapnel"
