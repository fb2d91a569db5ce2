"""Charts as SVG: ratios as horizontal bars on a logarithmic axis, with the least and the most as whiskers; flames."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES, ROW, TOP = 900, 340, 90, 26, 62
BETTER, WORSE, INK, FAINT = "#2f7d4f", "#b4562b", "#222", "#ccc"


@dataclass(frozen=True)
class Bar:
    label: str
    least: float
    median: float
    most: float


def ratios(title: str, subtitle: str, bars: Sequence[Bar], *, higher_is_better: bool) -> str:
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
        good = bar.median >= 1 if higher_is_better else bar.median <= 1
        begin, end = sorted((x(1), x(bar.median)))
        color = BETTER if good else WORSE
        parts.append(_text(LABELS - 10, middle + 4, bar.label, 'text-anchor="end"'))
        parts.append(
            f'<rect x="{begin:.1f}" y="{y + 3}" width="{max(end - begin, 1):.1f}" height="{ROW - 10}" fill="{color}"/>'
        )
        parts.append(
            f'<line x1="{x(bar.least):.1f}" y1="{middle}" x2="{x(bar.most):.1f}" y2="{middle}" stroke="{INK}"/>'
        )
        parts.append(_text(right + 12, middle + 4, f"{bar.median:.3g}"))
    return "\n".join([*parts, "</svg>", ""])


def flames(title: str, stacks: Mapping[tuple[str, ...], int]) -> str:
    """A flame graph of samples by stack, callers below: width is time, the tooltip says how much."""
    total = sum(stacks.values()) or 1
    width, row = 1400, 18
    boxes = list(_boxes(sorted(stacks.items()), 0, 0))
    depth = 1 + max((level for level, *_ in boxes), default=0)
    height = 40 + depth * row
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="ui-monospace, monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(8, 22, title, 'font-size="15"'),
    ]
    for level, begin, count, name in boxes:
        box_width = count / total * width
        if box_width < 0.5:
            continue
        x, y = begin / total * width, height - (level + 1) * row
        hue = 20 + sum(name.rpartition(" (")[2].encode()) % 40  # one colour a file
        shown = name[: int(box_width / 6.7)] if box_width > 30 else ""
        parts.append(
            f"<g><title>{escape(name)}: {count / total:.1%}</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{box_width:.1f}" height="{row - 1}" fill="hsl({hue} 75% 65%)"/>'
            f"{_text(x + 2, y + 13, shown)}</g>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _boxes(
    stacks: Sequence[tuple[tuple[str, ...], int]], level: int, begin: int
) -> Iterator[tuple[int, int, int, str]]:
    """(level, samples to the left, samples, name) of each frame; the stacks are sorted and share what is below."""
    by_frame: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for stack, count in stacks:
        if len(stack) > level:
            by_frame.setdefault(stack[level], []).append((stack, count))
    for name, inner in by_frame.items():
        count = sum(samples for _, samples in inner)
        yield level, begin, count, name
        yield from _boxes(inner, level + 1, begin)
        begin += count


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
