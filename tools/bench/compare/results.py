"""The file of results, which later runs extend, and what is read off it."""
import json
import os
import statistics
from dataclasses import dataclass

from compare.common import Failure
from compare.contestants import GRAPNEL


def load(path, setup):
    """What was measured before, if by the same versions on the same machine; else an empty file's content."""
    if not path.exists():
        return {"setup": setup, "cases": {}, "errors": {}}
    try:
        results = json.loads(path.read_text())
        different = [name for name in setup if results["setup"].get(name) != setup[name]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(f"{path}: not a file of results; name another --out") from None
    if different:
        raise Failure(f"{path} holds results of other {', '.join(different)}; name another --out, or remove it")
    return results


def save(path, results):
    """Whole or not at all, after every case: an interrupted run keeps what it had."""
    new = path.with_suffix(".part")
    new.write_text(json.dumps(results))
    os.replace(new, path)


def add(results, setting, measured):
    """More rounds of a case."""
    key = f"{setting.net}/{setting.task}/{setting.batch}/{setting.size}/{setting.threads}"
    case = results["cases"].setdefault(key, {"rounds": [], "peak_mib": {}, "libraries_mib": {}, "absent": {}})
    case["rounds"] += measured["rounds"]
    for memory in ("peak_mib", "libraries_mib"):
        case[memory].update(measured[memory])
    for name, times in measured.get("imported_ms", {}).items():
        case.setdefault("imported_ms", {}).setdefault(name, []).extend(times)
    case["absent"] = measured["absent"]


def quantile(values, q):
    """Interpolated between neighbours, as numpy.quantile does."""
    values = sorted(values)
    place = q * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


@dataclass
class Row:
    """One contestant in one case. Ratios are its time over Grapnel's, round by round: above 1 Grapnel is faster."""

    name: str
    times: list
    ratios: list
    peak_mib: float  # None where it was not measured
    libraries_mib: float
    imported_ms: list  # of a cold start: what of each time came after the imports; else empty

    @property
    def median(self):
        return statistics.median(self.times)

    @property
    def ratio(self):
        return statistics.median(self.ratios)

    @property
    def spread(self):
        return quantile(self.ratios, 0.1), quantile(self.ratios, 0.9)


@dataclass
class Case:
    net: str
    task: str
    batch: int
    size: int
    threads: int
    grapnel: Row
    peers: list  # of Row, in the order of measuring
    absent: dict

    @property
    def title(self):
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.task == "start":
            return f"{self.net}, cold start to the first logits, {threads}"
        return f"{self.net}, {self.task}, batch {self.batch}, {threads}"

    @property
    def best(self):
        """Of each peer the configuration that is the hardest to beat: {"PyTorch": row, ...}."""
        found = {}
        for row in self.peers:
            peer = row.name.split(", ")[0]
            if peer not in found or row.ratio < found[peer].ratio:
                found[peer] = row
        return found


def _row(name, case):
    rounds = [r for r in case["rounds"] if r.get(name) and r.get(GRAPNEL)]
    ratios = [statistics.median(r[name]) / statistics.median(r[GRAPNEL]) for r in rounds]
    memory = [case[kind].get(name) for kind in ("peak_mib", "libraries_mib")]
    return Row(name, [ms for r in rounds for ms in r[name]], ratios, *memory,
               case.get("imported_ms", {}).get(name, []))


def cases(results):
    """Every case that has a round, in a fixed order."""
    order = {"infer": 0, "gradcam": 1, "backward": 2, "train": 3, "start": 4}
    found = []
    for key, case in results["cases"].items():
        net, task, batch, size, threads = key.split("/")
        names = dict.fromkeys(name for r in case["rounds"] for name in sorted(r) if r[name] and name != GRAPNEL)
        if case["rounds"]:
            found.append(Case(net, task, int(batch), int(size), int(threads), _row(GRAPNEL, case),
                              [_row(name, case) for name in names], case["absent"]))
    return sorted(found, key=lambda c: (order[c.task], c.net, c.size, c.batch, c.threads))
