"""Writes the small weight files beside this script with the real libraries, and expected.txt with what they hold.

Run: python make_golden.py [FOLDER]. Written with torch 2.15.0, safetensors 0.8.0. The legacy file of Python 2 and torch 0.3
is assembled by hand, opcode by opcode, because nothing that runs today writes it; torch reads it as expected.

written.safetensors is the other way round: this project's writer made it from types.zip.pt (grapnel convert), a test
compares the writer's bytes with it, and this script checks that the safetensors library reads it.

expected.txt has one line a tensor: FILE NAME DTYPE SHAPE STRIDES STORAGE VALUES, with lists joined by commas, "-" for an
empty list, and STORAGE a number that equal storages of one file share.
"""

import collections
import io
import pathlib
import pickle
import struct
import sys
import zipfile

import safetensors
import safetensors.torch
import torch

HERE = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
HERE = HERE if HERE.is_dir() else HERE.parent
LINES = []

DTYPES = {torch.int32: torch.int64, torch.int16: torch.int64, torch.int8: torch.int64}


def join(values):
    return ",".join(str(value) for value in values) or "-"


def expect(file, tensors):
    """Adds what a reader must find in `file` to expected.txt."""
    storages = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        storage = storages.setdefault(tensor.untyped_storage()._cdata, len(storages))
        dtype = str(DTYPES.get(tensor.dtype, tensor.dtype)).removeprefix("torch.")
        values = [repr(float(value)) for value in tensor.flatten().tolist()]
        # A dense layout is all an empty tensor can have in common with its original.
        strides = tensor.stride() if tensor.numel() else torch.empty(tensor.shape).stride()
        LINES.append(" ".join([file, name, dtype, join(tensor.shape), join(strides), str(storage), join(values)]))


def every_type():
    """Values that tell types, signs and byte orders apart."""
    base = torch.tensor([0.0, 1.0, -2.5, 65504.0])
    tensors = {str(dtype).removeprefix("torch."): base.to(dtype) for dtype in (torch.float64, torch.float32, torch.float16)}
    tensors["bfloat16"] = torch.tensor([0.0, 1.0, -2.5, 3.0e38]).to(torch.bfloat16)
    tensors["int64"] = torch.tensor([0, 1, -2, 2**40])
    tensors["int32"] = torch.tensor([0, 1, -2, 2**30], dtype=torch.int32)
    tensors["int16"] = torch.tensor([0, 1, -2, 2**14], dtype=torch.int16)
    tensors["int8"] = torch.tensor([0, 1, -2, -128], dtype=torch.int8)
    tensors["uint8"] = torch.tensor([0, 1, 254, 255], dtype=torch.uint8)
    tensors["bool"] = torch.tensor([False, True, True, False])
    return tensors


def layouts():
    """Strides, offsets, shared storages, and shapes without elements."""
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    matrix = torch.arange(6.0).reshape(2, 3)
    return {
        "channels_last": image.contiguous(memory_format=torch.channels_last),
        "transposed": matrix.t(),
        "same_storage": matrix,
        "row": matrix[1],
        "column": matrix[:, 2],
        "step": matrix.flatten()[1::2],
        "repeated": torch.tensor([7.0]).expand(2, 3),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0),
        "empty_matrix": torch.empty(2, 0, 3),
        "parameter": torch.nn.Parameter(torch.tensor([1.0, -1.0])),
        "frozen": torch.nn.Parameter(torch.tensor([2.0]), requires_grad=False),
    }


def small_net():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.BatchNorm2d(2))


def save_both(stem, value, tensors=None):
    torch.save(value, HERE / f"{stem}.zip.pt")
    torch.save(value, HERE / f"{stem}.legacy.pt", _use_new_zipfile_serialization=False)
    for kind in ("zip", "legacy"):
        expect(f"{stem}.{kind}.pt", tensors if tensors is not None else value)


def edit_zip(source, target, edit):
    """Copies a torch zip archive with `edit(name, data)` applied to every entry."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / target, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            new.writestr(zipfile.ZipInfo(info.filename), edit(info.filename, old.read(info)))


def text2(value):
    """A Python 2 str."""
    return b"U" + bytes([len(value)]) + value.encode()


def integers(values):
    return b"(" + b"".join(b"K" + bytes([value]) for value in values) + b"t"


def storage2(key, kind, count, view=b"N"):
    return b"(" + text2("storage") + f"ctorch\n{kind}\n".encode() + text2(key) + text2("cuda:0") + b"K" + bytes([count]) + view + b"tQ"


def tensor2(storage, offset, sizes, strides):
    """A call of the first _rebuild_tensor, with four arguments."""
    return b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K" + bytes([offset]) + integers(sizes) + integers(strides) + b"tR"


def parameter2(tensor):
    """A call of the class, then its state: requires_grad, volatile, backward hooks."""
    return b"ctorch.nn.parameter\nParameter\n(" + tensor + b"tR(\x88\x89ccollections\nOrderedDict\n)Rtb"


def python2_file(file):
    """What torch 0.3 wrote under Python 2: str names, OrderedDict of a list, four-argument tensors, a view of a storage."""
    view = b"(" + text2("v") + b"K\x02K\x03t"
    pairs = b"".join(
        b"](" + text2(name) + value + b"e"
        for name, value in (
            ("weight", tensor2(storage2("11", "FloatStorage", 6), 0, (2, 3), (3, 1))),
            ("bias", tensor2(storage2("22", "LongStorage", 2), 1, (1,), (1,))),
            ("parameter", parameter2(tensor2(storage2("11", "FloatStorage", 6), 5, (1,), (1,)))),
            ("view", tensor2(storage2("11", "FloatStorage", 6, view), 1, (2,), (1,))),
        )
    )
    body = b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"e\x85R."
    keys = pickle.dumps(["22", "11"], protocol=2)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    data = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps(system, 2) + body + keys
    data += struct.pack("<qqq", 2, -5, 1 << 33) + struct.pack("<q6f", 6, 0, 1, 2, 3, 4, 5)
    (HERE / file).write_bytes(data)
    base, longs = torch.arange(6.0), torch.tensor([-5, 1 << 33])
    expected = {"weight": base.reshape(2, 3), "bias": longs[1:], "parameter": base[5:], "view": base[3:5]}
    expect(file, expected)
    read = torch.load(HERE / file, map_location="cpu")
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


def main():
    save_both("types", every_type())
    save_both("layouts", layouts())
    state = small_net().state_dict()
    assert isinstance(state, collections.OrderedDict) and state._metadata
    save_both("net", state)
    save_both("nested", {"epoch": 3, "model": {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}}, state)
    torch.save({"weight": torch.tensor([1.0, 2.0]), "epoch": 7, "rate": 0.25, "best": None, "note": "hej", "done": True}, HERE / "notes.zip.pt")
    expect("notes.zip.pt", {"weight": torch.tensor([1.0, 2.0])})

    edit_zip("net.zip.pt", "cuda.zip.pt", lambda name, data: data.replace(b"\x03\0\0\0cpu", b"\x06\0\0\0cuda:0"))
    expect("cuda.zip.pt", state)
    torch.jit.script(small_net()).save(str(HERE / "script.zip.pt"))
    torch.save(small_net(), HERE / "module.zip.pt")
    torch.save(torch.tensor([1.0]), HERE / "bare.zip.pt")
    torch.save({"x": torch.view_as_complex(torch.zeros(1, 2)).conj()}, HERE / "complex.zip.pt")
    torch.save({"x": torch.tensor([1.0])}, HERE / "protocol4.zip.pt", pickle_protocol=4)
    python2_file("python2.legacy.pt")

    plain = {name: tensor.contiguous() for name, tensor in every_type().items()}
    plain.update(scalar=torch.tensor(3.5), empty=torch.empty(0), matrix=torch.arange(6.0).reshape(2, 3))
    plain["naïve \"quoted\"\\\n\U0001f40c"] = torch.tensor([9.0])
    safetensors.torch.save_file(plain, HERE / "types.safetensors", metadata={"format": "pt", "note": "tab\there"})
    # Names in expected.txt are free of spaces.
    expect("types.safetensors", {name: tensor for name, tensor in plain.items() if " " not in name})

    written = safetensors.torch.load_file(HERE / "written.safetensors")
    for name, tensor in every_type().items():
        tensor = tensor.to(DTYPES.get(tensor.dtype, tensor.dtype))
        assert written[name].dtype == tensor.dtype and torch.equal(written[name], tensor), name
    assert written.keys() == every_type().keys()

    (HERE / "expected.txt").write_text("\n".join(LINES) + "\n")
    print(f"torch {torch.__version__}, safetensors {safetensors.__version__}, {len(LINES)} tensors")


main()
