"""Holds `grapnel preprocess` against torchvision's transforms, bit by bit.

    check_preprocess.py --program build/tools/grapnel PICTURE...

Each picture goes through three preparations. PNG pictures must give the same bits; JPEG decoders may differ by a few
levels, so for those the largest difference is printed, in levels of 255, and limited by --jpeg-levels.
Prints a Markdown table and exits with 1 if a picture differs.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image
from torchvision import transforms

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPARATIONS = {
    "shorter side 224, crop 224": ([], [transforms.Resize(224), transforms.CenterCrop(224)]),
    "shorter side 256, crop 224": (["--resize", "256"], [transforms.Resize(256), transforms.CenterCrop(224)]),
    "stretched to 224": (["--stretch"], [transforms.Resize((224, 224))]),
}


def expected(picture, steps):
    image = Image.open(picture).convert("RGB")
    steps = [*steps, transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    return transforms.Compose(steps)(image).unsqueeze(0).numpy()


def found(program, picture, options):
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "x.npy"
        done = subprocess.run([program, "preprocess", picture, "--output", output, *options],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"grapnel preprocess failed with {done.returncode} on {picture}:\n{done.stderr}")
        return np.load(output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--program", required=True, type=pathlib.Path, help="the built grapnel")
    parser.add_argument("--jpeg-levels", type=float, default=4.0, metavar="N", help="allowed for JPEG pictures")
    arguments = parser.parse_args()

    print("| picture | preparation | differing values | largest difference, levels |")
    print("|---|---|---|---|")
    good = True
    for picture in arguments.pictures:
        exact = Image.open(picture).format == "PNG"
        for name, (options, steps) in PREPARATIONS.items():
            theirs, ours = expected(picture, steps), found(arguments.program, picture, options)
            if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
                print(f"| {picture} | {name} | {ours.dtype} {ours.shape} instead of {theirs.dtype} {theirs.shape} | |")
                good = False
                continue
            levels = np.abs(ours - theirs).max(axis=(0, 2, 3)) * np.array(DEVIATION) * 255
            differing = int((ours.view(np.uint32) != theirs.view(np.uint32)).sum())
            print(f"| {picture} | {name} | {differing} of {ours.size} | {levels.max():.3g} |", flush=True)
            good &= differing == 0 if exact else bool(levels.max() <= arguments.jpeg_levels)
    print("\nEvery picture is as it should be." if good else "\nA picture differs.")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
