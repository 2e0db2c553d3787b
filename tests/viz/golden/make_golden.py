#!/usr/bin/env python3
"""Writes the pictures and expected values beside this file, with Pillow, torchvision, PyTorch, NumPy and matplotlib.

Run it only to renew them: the files are committed, the tests need no Python. Pictures are by formula
(../../golden/formula.py), so that most cases store nothing but a hash (FNV-1a, 32 bits) of the expected bytes.

    expected.txt   one case a line: its kind, its parameters, the expected size and hash
    NAME.png|jpg   pictures in every form the codec reads; NAME.jpg.png is what Pillow makes of NAME.jpg
"""
import struct
import sys
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional
from torchvision.utils import make_grid

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "golden"))
import formula  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
lines = []


def fnv(data):
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def picture(name, height, width, channels=3):
    values = formula.integers(name, (height, width, channels), 256).astype(np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values)


def expect(kind, *fields, data):
    lines.append(" ".join(map(str, (kind, *fields, f"{fnv(data):08x}"))))


def resizes():
    sizes = formula.integers("sizes", (200, 4), 60) + 1
    for i, (h, w, oh, ow) in enumerate(sizes.tolist()):
        oh, ow = (h if i % 10 == 0 else oh), (w if i % 10 == 1 else ow)
        channels = 1 if i % 3 == 0 else 3
        out = picture("resize", h, w, channels).resize((ow, oh), Image.BILINEAR)
        expect("resize", h, w, channels, oh, ow, data=out.tobytes())
    # Large factors, the two orders of the passes, and Pillow's fixed-point sums at their largest (all 255 is "white").
    for h, w, oh, ow in ((300, 400, 7, 9), (400, 100, 50, 60), (400, 30, 399, 29), (2, 3, 200, 150), (1, 1, 5, 4)):
        expect("resize", h, w, 3, oh, ow, data=picture("resize", h, w).resize((ow, oh), Image.BILINEAR).tobytes())
    for h, w, size in ((50, 70, 32), (70, 50, 32), (33, 47, 40), (20, 20, 20), (31, 101, 8), (200, 60, 24), (1, 9, 3)):
        out = functional.resize(picture("shorter", h, w), size)
        expect("shorter", h, w, size, *out.size[::-1], data=out.tobytes())


def crops():
    for h, w, oh, ow in ((9, 9, 4, 4), (9, 8, 4, 5), (11, 12, 4, 6), (7, 10, 7, 10), (5, 6, 8, 9), (5, 12, 8, 7), (12, 5, 7, 8),
                         (10, 13, 5, 4)):
        out = functional.center_crop(picture("crop", h, w), [oh, ow])
        expect("crop", h, w, oh, ow, data=out.tobytes())


def preprocessing():
    for h, w, channels, resize, crop, stretch in ((40, 56, 3, 32, 32, 0), (61, 35, 3, 36, 32, 0), (30, 50, 3, 24, 24, 1),
                                                  (33, 33, 1, 24, 20, 0), (20, 90, 3, 16, 24, 0)):
        chain = transforms.Compose([transforms.Resize((resize, resize) if stretch else resize),
                                    transforms.CenterCrop(crop), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        out = chain(picture("preprocess", h, w, channels).convert("RGB"))
        expect("preprocess", h, w, channels, resize, crop, stretch, data=out.numpy().tobytes())
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([levels] * 3, axis=2))
    tensor = transforms.ToTensor()(image)
    expect("to_tensor", data=tensor.numpy().tobytes())
    expect("normalize", data=transforms.Normalize(MEAN, STD)(tensor).numpy().tobytes())


def colors():
    for kind, factors in (("brightness", (0, 0.4, 1, 1.7)), ("contrast", (0, 0.6, 1, 1.35)), ("saturation", (0, 0.3, 1, 1.9)),
                          ("hue", (-0.5, -0.17, 0, 0.05, 0.31))):
        for factor in factors:
            out = getattr(functional, f"adjust_{kind}")(picture("colors", 61, 83), factor)
            expect(kind, factor, data=out.tobytes())
    for mode in ("constant", "reflect"):
        for top, left in ((0, 0), (3, 1), (8, 8)):
            out = functional.crop(functional.pad(picture("colors", 12, 12), 4, padding_mode=mode), top, left, 12, 12)
            expect("pad", mode, top, left, data=out.tobytes())


def random_crops():
    """Means and deviations, over 20,000 draws: share of the area, logarithm of width / height, left edge."""
    for h, w, low in ((200, 240, 0.08), (200, 240, 0.5), (120, 250, 0.6)):
        torch.manual_seed(1)
        image = torch.empty(3, h, w)
        draws = [transforms.RandomResizedCrop.get_params(image, [low, 1], [3 / 4, 4 / 3]) for _ in range(20000)]
        _, left, heights, widths = np.array(draws, dtype=float).T
        area, ratio = heights * widths / (h * w), np.log(widths / heights)
        values = (area.mean(), area.std(), ratio.mean(), ratio.std(), left.mean())
        lines.append(" ".join(map(str, ["random_crop", h, w, low, *(f"{v:.5f}" for v in values)])))


def maps():
    for h, w, oh, ow in ((7, 7, 28, 28), (14, 10, 33, 47), (9, 9, 4, 5)):
        values = torch.from_numpy(formula.reals("map", (1, 1, h, w)))
        out = torch.nn.functional.interpolate(values, (oh, ow), mode="bilinear", align_corners=False)
        samples = out.flatten()[:: max(1, out.numel() // 16)]
        lines.append(" ".join(map(str, ["map", h, w, oh, ow, *(repr(float(v)) for v in samples)])))


def colormaps():
    for name in ("viridis", "inferno", "turbo"):
        table = np.rint(matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)
        expect("colormap", name, data=table.tobytes())
    x = np.arange(256) / 255
    # In double the products are not exact where a value lies half-way: scale by 255 first, then all is.
    jet = [np.clip(382.5 - np.abs(4 * np.arange(256) - 255 * k), 0, 255) for k in (3, 2, 1)]
    assert np.allclose(jet, [np.clip(1.5 - np.abs(4 * x - k), 0, 1) * 255 for k in (3, 2, 1)])
    expect("colormap", "jet", data=np.rint(np.stack(jet, axis=1)).astype(np.uint8).tobytes())
    expect("colormap", "gray", data=np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())


def overlays():
    picture_, heat = (formula.integers(n, (20, 30, 3), 256).astype(np.uint8) for n in ("picture", "heat"))
    for a, b in ((0.3, 0.5), (0.5, 0.5), (1.0, 0.8)):
        mixed = np.clip(np.rint(heat * a + picture_ * b), 0, 255).astype(np.uint8)
        expect("overlay", a, b, data=mixed.tobytes())


def grids():
    cases = ((64, 1, 112, 112, 8, 2, 0.0), (128, 1, 28, 28, 8, 2, 0.0), (5, 3, 6, 7, 3, 1, 0.5), (3, 3, 4, 4, 8, 2, 0.0),
             (1, 1, 5, 6, 8, 2, 0.0), (2, 2, 3, 3, 1, 0, 0.0), (9, 1, 5, 4, 4, 3, 1.0))
    for n, c, h, w, nrow, padding, pad_value in cases:
        batch = torch.from_numpy(formula.reals("grid", (n, c, h, w), 3.0, 1.0))
        for scale, options in (("none", {}), ("together", {"normalize": True}), ("each", {"normalize": True, "scale_each": True})):
            out = make_grid(batch, nrow=nrow, padding=padding, pad_value=pad_value, **options)
            expect("grid", n, c, h, w, nrow, padding, pad_value, scale, *out.shape, data=out.numpy().tobytes())
            if c == 2:
                continue
            byte = out.mul(255).add_(0.5).clamp_(0, 255).permute(1, 2, 0).to(torch.uint8)  # as torchvision's save_image
            expect("saved", n, c, h, w, nrow, padding, pad_value, scale, data=byte.numpy().tobytes())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, height, width, depth, color, interlaced=False, extra=b""):
    """A PNG written by hand, because Pillow writes neither every depth nor interlacing."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    raw = b""
    for number, (x, y, dx, dy) in enumerate(passes if interlaced else ((0, 0, 1, 1),)):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        row_bytes = (columns * samples * depth + 7) // 8
        if columns < 1 or rows < 1:
            continue
        data = formula.integers(f"{name}{number}", (rows, row_bytes), 256).astype(np.uint8)
        for row in range(rows):
            raw += bytes([row % 5]) + data[row].tobytes()  # every filter type
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    (HERE / name).write_bytes(file)
    image = Image.open(HERE / name).convert("RGB")
    expect("picture", name, height, width, 0, data=image.tobytes())


def jpeg(name, image, **options):
    image.save(HERE / name, "JPEG", **options)
    decoded = Image.open(HERE / name).convert("RGB")
    decoded.save(HERE / (name + ".png"), "PNG")
    expect("picture", name, *decoded.size[::-1], 1, data=decoded.tobytes())


def pictures():
    palette = chunk(b"PLTE", formula.integers("palette", (30,), 256).astype(np.uint8).tobytes())
    for color, depths in ((0, (1, 2, 4, 8)), (2, (8, 16)), (3, (1, 4, 8)), (4, (8, 16)), (6, (8, 16))):
        for depth in depths:
            png(f"color{color}_depth{depth}.png", 7, 9, depth, color, extra=palette if color == 3 else b"")
    png("interlaced.png", 9, 11, 8, 2, True)
    png("transparent_palette.png", 5, 6, 8, 3, extra=palette + chunk(b"tRNS", b"\x00\x80"))
    png("transparent_grey.png", 5, 6, 8, 0, extra=chunk(b"tRNS", b"\x00\x05"))
    smooth = picture("photo", 4, 5).resize((33, 27), Image.BICUBIC)
    jpeg("photo_420.jpg", smooth, quality=85)
    jpeg("photo_444.jpg", smooth, quality=92, subsampling=0)
    jpeg("photo_progressive.jpg", smooth, quality=85, progressive=True)
    jpeg("photo_restarts.jpg", smooth, quality=80, restart_marker_blocks=2)
    jpeg("photo_grey.jpg", smooth.convert("L"), quality=85)
    jpeg("photo_cmyk.jpg", smooth.convert("CMYK"), quality=92)


def versions():
    named = [("Pillow", PIL), ("torchvision", torchvision), ("torch", torch), ("numpy", np), ("matplotlib", matplotlib)]
    return ", ".join(f"{name} {module.__version__.split('+')[0]}" for name, module in named)


if __name__ == "__main__":
    for make in (resizes, crops, preprocessing, colors, random_crops, maps, colormaps, overlays, grids, pictures):
        make()
    (HERE / "expected.txt").write_text(f"# Made by make_golden.py with {versions()}.\n" + "\n".join(lines) + "\n")
