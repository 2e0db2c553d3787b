"""A peer in a process of its own: warmed up once, then one measurement for each line of standard input.

    python -m compare.worker ENGINE WORK NET BATCH SIZE THREADS FOLDER WARMUP

Answers in lines of JSON, as `grapnel bench --serve` does: {"ready": true, "libraries_mib": the peak before there is a
network}, or {"absent": "why"}; then, for each line with a number of runs, {"times_ms": [...], "peak_mib": ...}.

The work "start" is a cold one: the process loads the network, writes the logits of FOLDER/x1.npy to
FOLDER/start.ENGINE.npy, answers {"imported_ms": how long that took once the libraries were imported}, and ends.
"""
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy

from compare import engines


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer

    def answer(**fields):
        print(json.dumps(fields), file=answers, flush=True)

    engine, work, net = sys.argv[1:4]
    batch, size, threads = map(int, sys.argv[4:7])
    try:
        kind = getattr(engines, engine)
        for name in kind.libraries:
            importlib.import_module(name)
        libraries_mib = peak_mib()
        imported = time.perf_counter()
        case = engines.Case(net, work, batch, size, threads, Path(sys.argv[7]))
        loaded = kind(case)
        if work == "start":
            numpy.save(case.folder / f"start.{engine}.npy", loaded.logits(case.input()))
            return answer(imported_ms=(time.perf_counter() - imported) * 1e3)
        task = getattr(loaded, work)
        for _ in range(int(sys.argv[8])):
            task()
    except Exception as error:  # whatever a peer may throw: the others go on, and the table tells
        return answer(absent=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
    answer(ready=True, libraries_mib=libraries_mib)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            task()
            times.append((time.perf_counter() - start) * 1e3)
        answer(times_ms=times, peak_mib=peak_mib())
    return None


if __name__ == "__main__":
    main()
