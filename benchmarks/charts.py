"""Charts as SVG: horizontal bars of ratios on a logarithmic axis, with the least and the most as whiskers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES, ROW, TOP = 860, 290, 110, 26, 62
BETTER, WORSE, INK, FAINT = "#2f7d4f", "#b4562b", "#222", "#ccc"


@dataclass(frozen=True)
class Bar:
    label: str
    least: float
    median: float
    most: float
    higher_is_better: bool


def ratios(title: str, subtitle: str, bars: Sequence[Bar]) -> str:
    """An SVG document. A bar grows from 1 to its ratio: green where that is the better side, brown where not."""
    height = TOP + ROW * len(bars) + 30
    extremes = [abs(math.log10(value)) for bar in bars for value in (bar.least, bar.most) if value > 0]
    reach = max(math.log10(2), *extremes) * 1.05
    left, right = LABELS, WIDTH - VALUES

    def x(ratio: float) -> float:
        exponent = max(-reach, min(reach, math.log10(ratio))) if ratio > 0 else -reach
        return left + (exponent + reach) / (2 * reach) * (right - left)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(12, 22, title, 'font-size="16" font-weight="600"'),
        _text(12, 42, subtitle, 'fill="#666"'),
    ]
    for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if abs(math.log10(tick)) > reach:
            continue
        color = INK if tick == 1 else FAINT
        at = x(tick)
        bottom = height - 24
        parts.append(f'<line x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{bottom}" stroke="{color}"/>')
        parts.append(_text(at, height - 8, f"{tick:g}", 'text-anchor="middle" fill="#666" font-size="11"'))
    for number, bar in enumerate(bars):
        y = TOP + ROW * number
        middle = y + ROW / 2 - 2
        good = bar.median >= 1 if bar.higher_is_better else bar.median <= 1
        begin, end = sorted((x(1), x(bar.median)))
        color = BETTER if good else WORSE
        parts.append(_text(LABELS - 10, middle + 4, bar.label, 'text-anchor="end"'))
        parts.append(
            f'<rect x="{begin:.1f}" y="{y + 3}" width="{max(end - begin, 1):.1f}" height="{ROW - 10}" fill="{color}"/>'
        )
        parts.append(
            f'<line x1="{x(bar.least):.1f}" y1="{middle}" x2="{x(bar.most):.1f}" y2="{middle}" stroke="{INK}"/>'
        )
        arrow = "↑" if bar.higher_is_better else "↓"
        parts.append(_text(right + 12, middle + 4, f"{bar.median:.2f} {arrow}"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
