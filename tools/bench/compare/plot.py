"""Results as an SVG: a group of bars for each case, Grapnel's and each peer's best configuration."""
from html import escape

from compare.results import cases, quantile

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 860, 230, 170, 18, 34
_GRAPNEL, _SLOWER, _FASTER = "#2563a8", "#b9bfc7", "#d9652b"


def _text(x, y, words, size=12, anchor="start", weight="normal", colour="#222"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(words)}</text>')


def _bar(y, row, scale, colour, label):
    ends = (row.median, quantile(row.times, 0.1), quantile(row.times, 0.9))
    middle, low, high = (min(_LEFT + scale * ms, _WIDTH - _RIGHT) for ms in ends)
    centre = y + _BAR / 2 - 2
    return [_text(_LEFT - 8, y + _BAR - 6, row.name, anchor="end"),
            f'<rect x="{_LEFT}" y="{y}" width="{middle - _LEFT:.1f}" height="{_BAR - 4}" fill="{colour}"/>',
            f'<path d="M{low:.1f} {centre}H{high:.1f}" stroke="#222" stroke-width="1.5"/>',
            _text(max(middle, high) + 6, y + _BAR - 6, label)]


def _legend(y):
    parts, x = [], _LEFT
    for colour, words, width in ((_GRAPNEL, "Grapnel", 80), (_SLOWER, "slower than Grapnel", 150),
                                 (_FASTER, "faster than Grapnel", 150)):
        parts += [f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>', _text(x + 17, y, words)]
        x += width
    return parts + [_text(x, y, "line: p10 to p90")]


def to_svg(results):
    parts, y = [_text(16, 28, "Milliseconds, less is better", 16, weight="bold"), *_legend(52)], 66
    for case in cases(results):
        rows = [case.grapnel, *case.best.values()]
        scale = (_WIDTH - _LEFT - _RIGHT) / (1.2 * max(row.median for row in rows))
        y += _GAP
        parts.append(_text(16, y - 8, case.title, 13, weight="bold"))
        for row in rows:
            ours = row is case.grapnel
            colour = _GRAPNEL if ours else _FASTER if row.ratio < 1 else _SLOWER
            label = f"{row.median:.1f} ms" + ("" if ours else f", {row.ratio:.2f} x Grapnel's")
            parts += _bar(y, row, scale, colour, label)
            y += _BAR
    height = y + 20
    size = f'width="{_WIDTH}" height="{height}"'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {height}" '
            f'font-family="sans-serif">\n<rect {size} fill="white"/>\n'
            + "\n".join(parts) + "\n</svg>\n")
