"""Results as Markdown."""
import statistics

from compare.contestants import GRAPNEL
from compare.results import cases, quantile

# What Grapnel's relative L2 errors may be.
_GATES = {"logits": 2e-5, "input_gradient": 1e-5, "step_median": 1e-5, "step": 1e-5}
_LAYER_GATE = 5e-6


def _number(value):
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _summary(found):
    lines = ["| | peer | its best configuration | its time / Grapnel's (p10 to p90) | Grapnel's memory / its | |",
             "|---|---|---|---|---|---|"]
    for case in found:
        for peer, row in case.best.items():
            memory = ""
            if row.peak_mib and case.grapnel.peak_mib:
                memory = f"{case.grapnel.peak_mib / row.peak_mib:.2f}"
            low, high = row.spread
            lines.append(f"| {case.title} | {peer} | {row.name.partition(', ')[2]} | {row.ratio:.2f} ({low:.2f} to "
                         f"{high:.2f}) | {memory} | {'**Grapnel loses**' if row.ratio < 1 else ''} |")
    return lines


def _ratio(case, row):
    return "" if row is case.grapnel else "{:.2f} ({:.2f} to {:.2f})".format(row.ratio, *row.spread)


def _times(row):
    return " | ".join(map(_number, (row.median, quantile(row.times, 0.1), quantile(row.times, 0.9))))


def _rows(case):
    """Each contestant with its name, in bold the best configurations."""
    best = {row.name for row in case.best.values()} | {GRAPNEL}
    for row in [case.grapnel, *case.peers]:
        yield row, f"**{row.name}**" if row.name in best else row.name


def _details(case):
    lines = [f"### {case.title}, {case.size}x{case.size}, {len(case.grapnel.ratios)} rounds", ""]
    lines += _start(case) if case.task == "start" else _work(case)
    for name, reason in case.absent.items():
        rest = " |" * (lines[2].count("|") - 3)
        lines.append(f"| {name} | absent: " + reason.replace("|", "\\|") + f" |{rest}")
    return lines + [""]


def _start(case):
    lines = ["| | median ms | p10 | p90 | its time / Grapnel's (p10 to p90) | of it after imports, median ms |",
             "|---|---|---|---|---|---|"]
    for row, name in _rows(case):
        imported = _number(statistics.median(row.imported_ms)) if row.imported_ms else ""
        lines.append(f"| {name} | {_times(row)} | {_ratio(case, row)} | {imported} |")
    return lines


def _work(case):
    lines = ["| | median ms | p10 | p90 | images/s | its time / Grapnel's (p10 to p90) | peak MiB | libraries alone |",
             "|---|---|---|---|---|---|---|---|"]
    for row, name in _rows(case):
        peak, libraries = (f"{mib:.0f}" if mib else "" for mib in (row.peak_mib, row.libraries_mib))
        lines.append(f"| {name} | {_times(row)} | {case.batch / row.median * 1e3:.1f} | {_ratio(case, row)} | {peak} | "
                     f"{libraries} |")
    return lines


def _judged(error, gate):
    return f"{error:.1e}, within" if error <= gate else f"**{error:.1e}, outside**"


def _errors(results):
    lines = ["## Errors against float64", "",
             "Relative L2, on pictures of noise: logits, and the gradient of a logit at the input (the median of the "
             "pictures), both in", "eval mode; the gradients of a training step, of the median parameter and of all "
             "together. Where a ReLU's input is zero", "but for rounding, it lets the gradient pass in one engine and "
             "not in the other, and all gradients before it change:", "errors near 1e-3 are such jumps, on any side "
             "(tests/oracle/compare_run.py measures without them). Grapnel's gates are", f"{_GATES['logits']:.0e} for "
             f"logits, {_GATES['step']:.0e} for gradients, and the same top-1.", "",
             "| | | logits | same top-1 | input gradient | step, median | step, all |", "|---|---|---|---|---|---|---|"]
    for title, engines in results["errors"].items():
        for name, error in engines.items():
            logits, *gradients = ("" if key not in error else _judged(error[key], gate) if name == GRAPNEL
                                  else f"{error[key]:.1e}" for key, gate in _GATES.items())
            lines.append(f"| {title} | {name} | {logits} | {'yes' if error['top1'] else '**no**'} | "
                         f"{' | '.join(gradients)} |")
    return lines + [""]


def _layers(results):
    lines = ["## Errors of layers alone", "",
             "Each convolution and fully connected layer as `grapnel run --capture` gives it, and PyTorch's in "
             "float32, against float64", f"on the same input; Grapnel's gate is {_LAYER_GATE:.0e}. Of the kernels "
             "alone, gradients too, tests/kernels/winograd_test.cpp", "asserts it on every instruction set."]
    for title, engines in results["errors"].items():
        layers = engines.get(GRAPNEL, {}).get("layers", {})
        if layers:
            lines += ["", f"| {title} | Grapnel | PyTorch |", "|---|---|---|"]
        for name, (ours, torch) in layers.items():
            lines.append(f"| {name} | {_judged(ours, _LAYER_GATE)} | {torch:.1e} |")
    return lines + [""]


def _sizes(setup):
    lines = ["## Installed size", "", "MiB of the package alone, without what it depends on (Python, CUDA's libraries, "
             "...); Grapnel is one file.", "", "| | version | MiB |", "|---|---|---|"]
    for name, package in [("Grapnel", setup["program"]), *setup["packages"].items()]:
        lines.append(f"| {name} | {package['version']} | {package['mib']:.1f} |")
    return lines + [""]


def to_markdown(results):
    found, setup = cases(results), results["setup"]
    lines = ["# Grapnel beside its peers", "",
             f"{setup['cpu']}, {setup['cores']} cores. Same weights ({setup['weights']}) and inputs, float32, in "
             "turns; ratios", "above 1: Grapnel is faster.", "",
             "## Against the best configuration of each peer", "", *_summary(found), "",
             "## Everything", ""]
    for case in found:
        lines += _details(case)
    return "\n".join(lines + _errors(results) + _layers(results) + _sizes(setup)).rstrip() + "\n"
