#!/usr/bin/env python3
"""What recording, hooks and backward cost per scalar operation: Grapnel, LibTorch and PyTorch's Python.

The three do the same (autograd_bench.cpp, autograd_libtorch.cpp, autograd_torch.py) in turns, in many short
rounds, each in a fresh process on one core, so that a change of the machine's clock or load meets all. Prints a
Markdown table of medians over the rounds, with the lowest and highest.

    tools/bench/compare_autograd.py --bench build/release/tools/bench/autograd_bench

Needs torch, whose headers and libraries build the LibTorch side; torch's version is that of both.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import torch
import torch.utils.cpp_extension

HERE = pathlib.Path(__file__).resolve().parent


def build_libtorch(program, compiler):
    """Compiles the LibTorch side unless that was done with this source and this torch."""
    source = HERE / "autograd_libtorch.cpp"
    newest = max(source.stat().st_mtime, pathlib.Path(torch.__file__).stat().st_mtime)
    if program.exists() and program.stat().st_mtime > newest:
        return
    program.parent.mkdir(parents=True, exist_ok=True)
    includes = [flag for path in torch.utils.cpp_extension.include_paths() for flag in ("-isystem", path)]
    libraries = torch.utils.cpp_extension.library_paths()
    flags = [flag for path in libraries for flag in ("-L" + path, "-Wl,-rpath," + path)]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    print(f"building {program}", file=sys.stderr)
    subprocess.run([compiler, "-std=c++20", "-O3", abi, *includes, str(source), "-o", str(program), *flags,
                    "-ltorch", "-ltorch_cpu", "-lc10"], check=True)


def grapnel_rows(options, with_memory):
    wanted = f"/{options.nodes}/" + ("|^memory/" if with_memory else "")
    result = subprocess.run([*options.pin, options.bench, "--benchmark_format=json", "--benchmark_filter=" + wanted,
                             f"--benchmark_min_time={options.min_time}"], check=True, capture_output=True, text=True)
    rows = {}
    for row in json.loads(result.stdout)["benchmarks"]:
        name = "/".join(row["name"].split("/")[:2])
        if "per_node" in row:
            rows[name] = row["per_node"]
        else:
            rows[name], rows["peak " + name] = row["bytes_per_node"], row["peak_bytes_per_node"]
    return rows


def program_rows(options, command, with_memory):
    arguments = [str(options.nodes), str(options.min_time), str(1_000_000 if with_memory else 0)]
    return json.loads(subprocess.run([*options.pin, *command, *arguments], check=True, capture_output=True,
                                     text=True).stdout)


def cell(name, values):
    if not values:
        return "-"
    if "memory" in name:
        return f"{statistics.median(values):.0f} B"
    ns = [value * 1e9 for value in values]
    return f"{statistics.median(ns):.0f} ({min(ns):.0f} to {max(ns):.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/release/tools/bench/autograd_bench", help="our side")
    parser.add_argument("--libtorch-program", type=pathlib.Path, help="where to build the LibTorch side; beside "
                        "--bench by default")
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--nodes", type=int, default=1000, choices=(1000, 100_000), help="length of a chain")
    parser.add_argument("--min-time", type=float, default=0.1, help="seconds a row and round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", help="pin all to this core with taskset")
    options = parser.parse_args()
    options.pin = ["taskset", "-c", options.core] if options.core else []
    program = options.libtorch_program or pathlib.Path(options.bench).resolve().parent / "autograd_libtorch"
    build_libtorch(program, options.compiler)

    python = [sys.executable, str(HERE / "autograd_torch.py")]
    sides = {
        "Grapnel": lambda memory: grapnel_rows(options, memory),
        "LibTorch": lambda memory: program_rows(options, [str(program)], memory),
        "PyTorch, Python": lambda memory: program_rows(options, python, memory),
    }
    found = {}  # row -> side -> values
    for number in range(options.rounds):
        for side in list(sides) if number % 2 else reversed(list(sides)):
            for row, value in sides[side](number == 0).items():
                found.setdefault(row, {}).setdefault(side, []).append(value)

    print(f"Chains of {options.nodes} float32 scalars, torch {torch.__version__}, {options.rounds} rounds: ns per node, "
          "median (lowest to highest)\n")
    print(f"| | {' | '.join(sides)} |\n|---|{'---|' * len(sides)}")
    for row, values in found.items():
        print(f"| {row} | {' | '.join(cell(row, values.get(side, [])) for side in sides)} |")


if __name__ == "__main__":
    main()
