"""Results as Markdown."""
from compare.results import cases, quantile


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


def _details(case):
    lines = [f"### {case.title}, {case.size}x{case.size}, {len(case.grapnel.ratios)} rounds", "",
             "| | median ms | p10 | p90 | images/s | its time / Grapnel's (p10 to p90) | peak MiB | libraries alone |",
             "|---|---|---|---|---|---|---|---|"]
    best = {row.name for row in case.best.values()}
    for row in [case.grapnel, *case.peers]:
        name = f"**{row.name}**" if row is case.grapnel or row.name in best else row.name
        ratio = "" if row is case.grapnel else "{:.2f} ({:.2f} to {:.2f})".format(row.ratio, *row.spread)
        peak, libraries = (f"{mib:.0f}" if mib else "" for mib in (row.peak_mib, row.libraries_mib))
        images = "" if case.task == "start" else f"{case.batch / row.median * 1e3:.1f}"
        lines.append(f"| {name} | {_number(row.median)} | {_number(quantile(row.times, 0.1))} | "
                     f"{_number(quantile(row.times, 0.9))} | {images} | {ratio} | {peak} | {libraries} |")
    for name, reason in case.absent.items():
        reason = reason.replace("|", "\\|")
        lines.append(f"| {name} | absent: {reason} | | | | | | |")
    return lines + [""]


def _errors(results):
    lines = ["## Errors against float64", "",
             "Relative L2, on pictures of noise: logits, and the gradient of a logit at the input (the median of the "
             "pictures), both in", "eval mode; the gradients of a training step, of the median parameter and of all "
             "together. Where a ReLU's input is zero", "but for rounding, it lets the gradient pass in one engine and "
             "not in the other, and all gradients before it change:", "errors near 1e-3 are such jumps, on any side.",
             "", "| | | logits | same top-1 | input gradient | step, median | step, all |",
             "|---|---|---|---|---|---|---|"]
    for title, engines in results["errors"].items():
        for name, error in engines.items():
            logits, *gradients = (f"{error[key]:.1e}" if key in error else ""
                                  for key in ("logits", "input_gradient", "step_median", "step"))
            lines.append(f"| {title} | {name} | {logits} | {'yes' if error['top1'] else '**no**'} | "
                         f"{' | '.join(gradients)} |")
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
    return "\n".join(lines + _errors(results) + _sizes(setup)).rstrip() + "\n"
