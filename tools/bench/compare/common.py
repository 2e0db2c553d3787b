"""Errors and child processes, as all of the comparison uses them."""
import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent


class Failure(Exception):
    """What is wrong, in one line: exit code 2."""


def progress(text):
    """A line on a terminal that the next one replaces; nothing in a pipe."""
    if sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)


# Without these glibc gives large blocks back to the system after each step, which costs PyTorch up to 30 %.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592",
                "MALLOC_TOP_PAD_": "268435456"}
# Grapnel asks the system for large pages by itself. With them ncnn gains 3 %, the other peers nothing.
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def environment(threads=None, engine=""):
    """The environment of a Python child; `engine` tells whether it is PyTorch's."""
    variables = dict(os.environ, PYTHONPATH=str(BENCH), PYTHONWARNINGS="ignore", **_LARGE_PAGES)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # a start would compile all modules of a peer anew
    if threads:
        variables["OMP_NUM_THREADS"] = str(threads)
    if engine.startswith("Torch"):
        variables.update(_KEEP_MEMORY)
    return variables


def run(command, what, **options):
    """Standard output of a command. Throws Failure with its first line about an error, or the last that it said."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, **options)
    except OSError as error:
        raise Failure(f"{what}: {command[0]}: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        errors = [line for line in said if "error:" in line.lower()]
        raise Failure(f"{what}: {(errors or said[-1:])[0].strip()}")
    return done.stdout
