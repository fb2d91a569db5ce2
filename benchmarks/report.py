"""What was measured, as tables and charts: on the terminal, and in docs/performance.md between its two marks.

Every ratio is kafkapy / Apache Kafka of the same round; a table shows the median and, in brackets, the least and the
most. The input is what `run` keeps as JSON, so a report can be written again from it.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import charts
from limits import LIMITS, PATHS
from scenarios import HIGHER, LOWER, SCENARIOS, Figure, Scenario
from sides import FRESH_PAIRS, PAIRS, WARM_PAIRS

Results = dict[str, Any]
"""{"machine": {...}, "scenarios": {name: {side: {figure: [value a round]}}}, "notes": the same shape,
"limits": {name: {figure: [value a round]}}}; a round without a value holds None."""

Sides = Mapping[str, Mapping[str, Sequence[float | None]]]
"""{side: {figure: [value a round]}}"""

NOTES = ("broker busy", "busiest client", "all else busy", "client's own limit, requests/s")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
CHARTS = "performance"


def spread(values: Iterable[float | None]) -> tuple[float, float, float] | None:
    """Least, median, most."""
    known = [value for value in values if value is not None]
    return (min(known), statistics.median(known), max(known)) if known else None


def ratios(
    sides: Mapping[str, Mapping[str, Sequence[float | None]]], pair: tuple[str, str], figure: str
) -> list[float]:
    """kafkapy / Apache Kafka, round by round."""
    ours, theirs = (sides.get(side, {}).get(figure, []) for side in pair)
    return [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]


def pairs_of(scenario: Scenario) -> dict[str, tuple[str, str]]:
    return FRESH_PAIRS if scenario.fresh else WARM_PAIRS if scenario.tls else PAIRS


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(values: Iterable[float | None]) -> str:
    found = spread(values)
    if found is None:
        return "–"
    least, median, most = map(number, found)
    return median if least == most else f"{median} ({least} to {most})"


def rows(results: Results) -> Iterator[tuple[Scenario, Figure, dict[str, Any]]]:
    for name, sides in results["scenarios"].items():
        for figure in SCENARIOS[name].figures:
            yield SCENARIOS[name], figure, sides


def table(results: Results) -> str:
    """All scenarios: both sides' figures and the ratios of each pair."""
    lines = [
        "| scenario | figure | better | kafkapy | Apache Kafka | ratio, warm | ratio, cold | ratio, small heap |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for scenario, figure, sides in rows(results):
        pairs = pairs_of(scenario)
        shown = pairs["warm"] if "warm" in pairs else pairs["cold"]
        values = [_cell(sides.get(side, {}).get(figure.name, [])) for side in shown]
        compared = [_cell(ratios(sides, pairs[pair], figure.name)) if pair in pairs else "–" for pair in PAIRS]
        cells = [scenario.title, f"{figure.name}, {figure.unit}", figure.better, *values, *compared]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def limits_table(results: Results) -> str:
    lines = ["| limit | figure | value |", "| --- | --- | ---: |"]
    for name, figures in results["limits"].items():
        for figure, values in figures.items():
            lines.append(f"| {LIMITS[name].title} | {figure}, {LIMITS[name].units[figure]} | {_cell(values)} |")
    lines += ["", "| path | limit | kafkapy / limit | Apache Kafka / limit |", "| --- | --- | ---: | ---: |"]
    for path, limit in PATHS.items():
        if path not in results["scenarios"] or limit not in results["limits"]:
            continue
        sides, figure = results["scenarios"][path], SCENARIOS[path].figures[0].name
        most = spread(results["limits"][limit][figure])
        cells = []
        for side in PAIRS["warm"]:
            values = sides.get(side, {}).get(figure, [])
            cells.append(_cell(None if value is None or most is None else value / most[1] for value in values))
        lines.append(f"| {SCENARIOS[path].title} | {LIMITS[limit].title} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def busy_table(results: Results) -> str:
    """Whose limit a row shows."""
    lines = [
        "| scenario | side | broker, cores | busiest client, cores | all else, cores | client's limit, requests/s |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, sides in results["notes"].items():
        for side, notes in sides.items():
            if not notes:
                continue
            cells = [_cell(notes.get(note, [])) for note in NOTES]
            lines.append(f"| {SCENARIOS[name].title} | {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: Results) -> dict[str, str]:
    """The charts by name, two a pair: where more is better, and where less is."""
    drawn = {}
    for pair in PAIRS:
        for better, meaning in ((HIGHER, "more is better"), (LOWER, "less is better")):
            bars = []
            for scenario, figure, sides in rows(results):
                pairs = pairs_of(scenario)
                if figure.better != better or pair not in pairs:
                    continue
                found = spread(ratios(sides, pairs[pair], figure.name))
                if found is not None:
                    label = scenario.title if len(scenario.figures) == 1 else f"{scenario.title}: {figure.name}"
                    bars.append(charts.Bar(label, *found))
            if bars:
                title = f"kafkapy / Apache Kafka, {pair}: {meaning}"
                subtitle = "median of the rounds, with the least and the most; green: kafkapy is ahead"
                name = f"{pair}-{better}".replace(" ", "-")
                drawn[name] = charts.ratios(title, subtitle, bars, higher_is_better=better == HIGHER)
    return drawn


def machine_line(results: Results) -> str:
    facts = results["machine"]
    return "; ".join(f"{name} {value}" for name, value in facts.items())


def write(results: Results, folder: Path) -> None:
    """docs/performance.md, what others wrote around the marks left as it is, and its charts."""
    page = folder / "performance.md"
    begin, end = (page.read_text("utf-8") if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n").split(BEGIN, 1)
    images = draw(results)
    (folder / CHARTS).mkdir(exist_ok=True)
    for name, image in images.items():
        (folder / CHARTS / f"{name}.svg").write_text(image, "utf-8")
    parts = [
        f"Written by `benchmarks/run`: {machine_line(results)}.",
        "Every ratio is kafkapy / Apache Kafka in the same round: the median, the least and the most of all rounds.",
        *(f"![ratios, {name}]({CHARTS}/{name}.svg)" for name in images),
        table(results),
        "Unless a row says otherwise: records of 1 KB, 16 partitions, acks=all, no compression, one client. Single "
        "requests carry one record of 100 B with acks=1, and every connection waits for its answer.",
        "## Limits\n\nThe same bytes without a broker, in the same run.",
        limits_table(results),
        "## Who was busy\n\nWhere the client is busier than the broker, the row shows the client's limit: there the "
        "broker's CPU is the figure to read. What all other processes used should be next to nothing.",
        busy_table(results),
    ]
    page.write_text(begin + BEGIN + "\n" + "\n\n".join(parts) + "\n" + END + end.split(END, 1)[1], "utf-8")
