"""Measuring: everybody in a process of its own, in turns, so that whatever else the machine does meets all."""
import contextlib
import itertools
import json
import subprocess
import tempfile
import time
from collections import namedtuple

from compare.common import Failure, environment, progress, run
from compare.contestants import GRAPNEL

# What is timed, with the paths that it takes.
Setting = namedtuple("Setting", "net task batch size threads folder program python")

_GRAPNEL_TASKS = {"infer": "infer", "gradcam": "gradcam", "backward": "backward", "train": "train"}
_PAUSE = 0.05  # seconds between turns: threads that wait by spinning go to sleep


def peer_command(setting, peer, warmup=0):
    return [str(word) for word in (setting.python, "-m", "compare.worker", peer.engine, peer.work, setting.net,
                                   setting.batch, setting.size, setting.threads, setting.folder, warmup)]


class Worker:
    """A child that measures on demand; `absent` says why it does not, if it does not."""

    def __init__(self, name, command, variables):
        self.name = name
        self.said = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill up
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.said, text=True, env=variables)
        ready = self._answer()
        self.absent = ready.get("absent")
        self.libraries_mib = ready.get("libraries_mib", 0)  # Grapnel has none to speak of

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        killed = self.process.wait() == -9
        self.said.seek(0)
        said = self.said.read().strip().splitlines()
        return {"absent": "killed: out of memory?" if killed else said[-1] if said else "ended without a word"}

    def measure(self, repeat):
        """{"times_ms", "peak_mib"}, or {"absent"} if it died."""
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            print(repeat, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self):
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):  # closes the pipes
            self.process.communicate()
        self.said.close()


def _workers(setting, peers, options):
    grapnel = [str(setting.program), "bench", "--model", setting.net, "--weights", str(setting.folder / "weights.pth"),
               "--task", _GRAPNEL_TASKS[setting.task], "--batch", str(setting.batch), "--size", str(setting.size),
               "--threads", str(setting.threads), "--warmup", str(options.warmup), "--repeat", str(options.repeat),
               "--serve"]
    yield GRAPNEL, grapnel, None
    for peer in peers:
        yield peer.name, peer_command(setting, peer, options.warmup), environment(setting.threads, peer.engine)


def measure(setting, peers, options):
    """{"rounds": [{name: [ms, ...]}], "peak_mib": {name: MiB}, "libraries_mib": {...}, "absent": {name: reason}}."""
    title = f"{setting.net} {setting.task} batch {setting.batch}, {setting.threads} threads"
    workers, result = [], {"rounds": [], "peak_mib": {}, "libraries_mib": {}, "absent": {}}
    try:
        for name, command, variables in _workers(setting, peers, options):
            progress(f"{title}: {name} warms up")
            workers.append(Worker(name, command, variables))
            if workers[-1].absent:
                _leave(workers, workers[-1], workers[-1].absent, result)
        for number in range(options.rounds):
            progress(f"{title}: round {number + 1} of {options.rounds}")
            times = {}
            for worker in list(reversed(workers) if number % 2 else workers):
                time.sleep(_PAUSE)
                answer = worker.measure(options.repeat)
                if "absent" in answer:
                    _leave(workers, worker, answer["absent"], result)
                    continue
                times[worker.name] = answer["times_ms"]
                result["peak_mib"][worker.name] = answer["peak_mib"]
                result["libraries_mib"][worker.name] = worker.libraries_mib
            result["rounds"].append(times)
    finally:
        for worker in workers:
            worker.close()
    return result


def _leave(workers, worker, reason, result):
    """A peer that fails is told of in the table; without Grapnel there is nothing to compare."""
    worker.close()
    if worker.name == GRAPNEL:
        raise Failure(reason)
    workers.remove(worker)
    result["absent"][worker.name] = reason


def _run_once(name, command, variables):
    """What a process that ends by itself answers. A peer that fails is absent, Grapnel is not."""
    try:
        return json.loads(run(command, name, env=variables))
    except Failure as failure:
        if name == GRAPNEL:
            raise
        return {"absent": str(failure)}


def measure_start(setting, peers, options):
    """The same for cold processes that load the network and answer once, timed from outside: from nothing to the end.

    "imported_ms" of the result has, for each round, what of it came after a peer's imports.
    """
    folder = setting.folder
    grapnel = [setting.program, "run", "--model", setting.net, "--weights", folder / "weights.pth", "--input",
               folder / "x1.npy", "--output", folder / f"start.{GRAPNEL}.npy", "--threads", setting.threads, "--json"]
    commands = [(GRAPNEL, grapnel, None)]
    for peer in peers:
        commands.append((peer.name, peer_command(setting, peer), environment(setting.threads, peer.engine)))
    result = {"rounds": [], "imported_ms": {}, "peak_mib": {}, "libraries_mib": {}, "absent": {}}
    for number in range(options.rounds + 1):  # the first fills the system's cache of files
        times = {}
        for name, command, variables in commands[::-1] if number % 2 else commands:
            if name in result["absent"]:
                continue
            progress(f"{setting.net} start, {setting.threads} threads: {name}, {number} of {options.rounds}")
            start = time.perf_counter()
            answer = _run_once(name, command, variables)
            wall = (time.perf_counter() - start) * 1e3
            if "absent" in answer:
                result["absent"][name] = answer["absent"]
            elif number:
                times[name] = [wall]
                if "imported_ms" in answer:
                    result["imported_ms"].setdefault(name, []).append(answer["imported_ms"])
        if number:
            result["rounds"].append(times)
    return result


def results_of_grapnel(setting, target, train, layers):
    """Lets the program compute what agree.py compares, from the files that export.py wrote."""
    folder = setting.folder
    common = [setting.program, "run", "--model", setting.net, "--weights", folder / "weights.pth", "--input",
              folder / "x.npy", "--threads", setting.threads]
    run([*common, "--output", folder / "grapnel.logits.npy", "--target", target, "--input-grad",
         folder / "grapnel.dx.npy"], GRAPNEL)
    run([*common, "--labels", folder / "labels.npy", "--grads", folder / "grapnel.step.safetensors",
         *(["--train"] if train else [])], GRAPNEL)
    (folder / "layers").mkdir(exist_ok=True)
    captures = (("--capture", f"{layer}={folder}/layers/{layer}.npy") for layer in layers)
    run([*common, *itertools.chain.from_iterable(captures)], GRAPNEL)
