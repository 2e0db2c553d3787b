#!/usr/bin/env python3
"""Writes colormap_tables.inc and imagenet_names.inc beside this file. Run it only to renew them.

Colours: matplotlib's viridis and inferno (CC0) and turbo (Apache-2.0, A. Mikhailov, Google), rounded to 8 bits, which is
also OpenCV's table. Names: torchvision.models._meta; WordNet ids: timm's imagenet_synsets.txt, sorted, which is the
class order.
"""
from pathlib import Path

import matplotlib
import numpy as np
import timm
import torchvision
from torchvision.models._meta import _IMAGENET_CATEGORIES

HERE = Path(__file__).resolve().parent
HEAD = "// Made by make_tables.py from {}; not edited by hand.\n"


def colors():
    lines = [HEAD.format(f"matplotlib {matplotlib.__version__}")]
    lines.append("// Viridis and inferno: CC0, S. van der Walt and N. Smith. Turbo: Apache-2.0, A. Mikhailov, Google.\n")
    lines.append("// Each map: 256 colours, RGB, two hexadecimal digits a channel.\n")
    for name in ("viridis", "inferno", "turbo"):
        table = np.rint(matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)
        digits = table.tobytes().hex()
        lines.append(f"constexpr char k{name.capitalize()}[] =\n")
        rows = [digits[i : i + 96] for i in range(0, len(digits), 96)]
        lines += [f'    "{row}"\n' for row in rows[:-1]] + [f'    "{rows[-1]}";\n']
    (HERE / "colormap_tables.inc").write_text("".join(lines))


def names():
    ids = (Path(timm.__file__).parent / "data/_info/imagenet_synsets.txt").read_text().split()
    assert len(ids) == 1000 and ids == sorted(ids) and len(_IMAGENET_CATEGORIES) == 1000
    source = f"torchvision {torchvision.__version__.split('+')[0]} and timm {timm.__version__}"
    lines = [HEAD.format(source), "// In class order: WordNet id, label.\n"]
    lines += [f'{{"{i}", "{name}"}},\n' for i, name in zip(ids, _IMAGENET_CATEGORIES)]
    (HERE / "imagenet_names.inc").write_text("".join(lines))


if __name__ == "__main__":
    colors()
    names()
