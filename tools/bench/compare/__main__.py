"""Grapnel beside PyTorch, ONNX Runtime, OpenVINO and ncnn on the CPU.

All run the same weights and inputs in float32 with the same number of threads, in turns, each in a process of its own.
Writes results.json (a later call with the same --out adds rounds and cases to it), table.md and plot.svg. Where Grapnel
loses, they say so.
"""
import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from compare import contest, plot, results, setup, table
from compare.common import ROOT, Failure, environment, progress, run
from compare.contestants import GRAPNEL, NETS, TASKS, peers_of


def words_of(known):
    def parse(text):
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"no {word!r}; there are {', '.join(known)}")
        return words
    return parse


def number(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def numbers(text):
    return [number(word) for word in text.split(",")]


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(message + "; --help tells the options")


def parse_options(arguments):
    parser = Parser(prog="compare.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    epilog="Lists are written with commas: --nets resnet18,vgg16 --threads 1,2. The environment is "
                    "set up with pip and\npip's own settings (PIP_INDEX_URL, PIP_CONFIG_FILE, ...); without an index "
                    "among them PyTorch's CPU wheels are preferred.")
    add = parser.add_argument
    add("--nets", type=words_of(NETS), default=list(NETS), metavar="LIST", help="of " + ", ".join(NETS) + " (all)")
    add("--tasks", type=words_of(TASKS), default=list(TASKS), metavar="LIST", help="of " + ", ".join(TASKS) + " (all)")
    add("--batches", type=numbers, default=[1, 8, 16, 32], metavar="LIST", help="of infer (1,8,16,32)")
    add("--train-batches", type=numbers, default=[32], metavar="LIST", help="of train (32); gradcam, backward and "
        "start take one picture")
    add("--size", type=number, default=224, metavar="N", help="height and width of the input (224)")
    add("--threads", type=numbers, default=[os.cpu_count()], metavar="LIST", help="(all cores)")
    add("--rounds", type=number, default=9, metavar="N", help="turns of each (9)")
    add("--repeat", type=number, default=5, metavar="N", help="timed runs a turn (5)")
    add("--warmup", type=number, default=3, metavar="N", help="runs before the first turn (3)")
    add("--with-compile", action="store_true", help="torch.compile too: slow to start, needs a C++ compiler")
    add("--quick", action="store_true", help="a smoke run: resnet18, batch 1, 3 rounds")
    add("--weights", type=Path, metavar="DIR", help="torchvision's .pth files, found by name (random weights)")
    add("--grapnel", metavar="FILE", help="the program (this tree's, built in build/release)")
    add("--venv", metavar="DIR", help="the Python environment: used as it is, or made (build/compare/venv)")
    add("--out", type=Path, default=ROOT / "build/compare/results", metavar="DIR", help="(build/compare/results)")
    options = parser.parse_args(arguments)
    if options.quick:
        options.nets, options.batches, options.train_batches = ["resnet18"], [1], [2]
        options.rounds, options.repeat, options.warmup = 3, 2, 1
    for net in options.nets if options.weights else []:
        weights_of(net, options.weights)
    return options


def weights_of(net, folder):
    found = sorted(folder.glob(f"{net}*.pth"))
    if not found:
        raise Failure(f"{folder}: no {net}*.pth; tools/get_weights.sh {net} {folder} fetches it")
    return found[0].resolve()


def describe(program, python, weights):
    """What results depend on: only results of the same are merged."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), cpu)
    version = run([program, "--version"], str(program)).split()[-1]
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:12]
    ours = {"version": f"{version} ({digest})", "mib": program.stat().st_size / 2**20}
    return {"cpu": cpu, "cores": os.cpu_count(), "weights": str(weights or "random"), "program": ours,
            "packages": setup.installed(python)}


def prepare(net, options, python):
    """Exports the weights, once for each set of them: the folder, and {engine: why it has no network there}."""
    source = weights_of(net, options.weights) if options.weights else None
    name = f"{net}-{options.size}" + ("-" + hashlib.sha256(str(source).encode()).hexdigest()[:8] if source else "")
    folder = options.out / "nets" / name
    complete = folder / "complete"
    if complete.exists():
        return folder, {}
    progress(f"{net}: exporting the weights")
    folder.mkdir(parents=True, exist_ok=True)
    absent = json.loads(run([python, "-m", "compare.export", net, options.size, folder, *([source] if source else [])],
                            f"{net}: export", env=environment()))
    if not absent:
        complete.touch()
    return folder, absent


_REFERENCE = """
import json, sys, numpy
r = numpy.load(sys.argv[1])
print(json.dumps([int(r["target"]), int(r["train"]), r["layers"].tolist()]))
"""


def check_agreement(setting, options, python):
    """Errors of everybody against float64, by the names of the contestants."""
    progress(f"{setting.net}: comparing results")
    reference = run([python, "-c", _REFERENCE, setting.folder / "reference.npz"], "reference")
    contest.results_of_grapnel(setting, *json.loads(reference))
    engines = {peer.engine: peer.name for peer in peers_of("infer", options.with_compile)}
    found = agree(setting, python, setting.net, setting.size, setting.threads, setting.folder, *engines)
    shutil.rmtree(setting.folder / "layers")  # hundreds of MiB
    return {engines.get(name, GRAPNEL): errors for name, errors in found.items()}


def check_start(setting, measured, python):
    """The same for the logits that cold processes wrote."""
    engines = {GRAPNEL: GRAPNEL, **{peer.engine: peer.name for peer in peers_of("start", False)}}
    able = [engine for engine, name in engines.items() if name not in measured["absent"]]
    found = agree(setting, python, "start", setting.folder, *able)
    return {engines[name]: errors for name, errors in found.items()}


def agree(setting, python, *arguments):
    return json.loads(run([python, "-m", "compare.agree", *arguments], "comparing results",
                          env=environment(setting.threads)))


def settings_of(net, folder, options, program, python):
    for threads in options.threads:
        for task in options.tasks:
            for batch in {"infer": options.batches, "train": options.train_batches}.get(task, [1]):
                yield contest.Setting(net, task, batch, options.size, threads, folder, program, python)


def measure(setting, without, options):
    """One case; `without` has the engines that cannot take part."""
    peers = peers_of(setting.task, options.with_compile)
    able = [peer for peer in peers if peer.engine not in without]
    result = (contest.measure_start if setting.task == "start" else contest.measure)(setting, able, options)
    result["absent"].update({peer.name: without[peer.engine] for peer in peers if peer.engine in without})
    return result


def write_reports(out, found):
    results.save(out / "results.json", found)
    (out / "table.md").write_text(table.to_markdown(found))
    (out / "plot.svg").write_text(plot.to_svg(found))


def compare(options):
    options.out.mkdir(parents=True, exist_ok=True)
    options.out = options.out.resolve()
    program = setup.program(options.grapnel)
    python = setup.python_with_peers(options.venv, ROOT / "build/compare/venv")
    found = results.load(options.out / "results.json", describe(program, python, options.weights))
    for net in options.nets:
        folder, without = prepare(net, options, python)
        cases = list(settings_of(net, folder, options, program, python))
        title = f"{net}, {options.size}x{options.size}"
        if title not in found["errors"]:  # the same programs would find the same
            found["errors"][title] = check_agreement(cases[0], options, python)
        for setting in cases:
            measured = measure(setting, without, options)
            results.add(found, setting, measured)
            if setting.task == "start":
                found["errors"][f"{title}, cold start"] = check_start(setting, measured, python)
            write_reports(options.out, found)
    progress("")
    print(f"wrote {options.out}/table.md, plot.svg and results.json")


def main():
    try:
        compare(parse_options(sys.argv[1:]))
    except (Failure, OSError) as error:
        progress("")
        print(f"compare.sh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress("")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
