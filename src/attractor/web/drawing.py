"""What was measured, drawn against the line it had to cross: inline SVG without scripts, styles by class."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from markupsafe import Markup, escape

from attractor.papers import Verdict
from attractor.papers.record import Record

WIDE = 30.0  # ratio of the largest to the smallest number from which on the axis is logarithmic
LEAST = 0.004  # of a margin, that is drawn for a claim just at its line
EDGE = 3.0  # percent of the width kept free at either side


class Axis:
    """A line of numbers on a width of 100 %; what lies beyond is drawn at the edge.

    Arguments:
        core: What must be seen.
        rest: What may lie beyond the edge, when it is more than once the core's length away.
    """

    def __init__(self, core: Sequence[float], rest: Sequence[float] = ()):
        numbers = [*core, *rest]
        self.log = min(numbers) > 0 and max(numbers) > WIDE * min(numbers)
        low, high = min(map(self._at, core)), max(map(self._at, core))
        length = (high - low) or (0.5 if self.log else abs(high) or 1.0)
        near = [self._at(x) for x in rest if low - length <= self._at(x) <= high + length]
        low, high = min([low, *near]), max([high, *near])
        pad = 0.12 * ((high - low) or length)
        self.low, self.high = low - pad, high + pad

    def _at(self, x: float) -> float:
        return math.log10(x) if self.log else x

    def percent(self, x: float | None, missing: float) -> float:
        """Where a number is drawn, within the edges; ``missing`` where it is not finite."""
        if x is None or not math.isfinite(x):
            return missing
        share = (self._at(x) - self.low) / (self.high - self.low)
        return min(max(EDGE + (100 - 2 * EDGE) * share, EDGE), 100 - EDGE)

    @property
    def middle(self) -> float:
        """The number in the middle."""
        at = (self.low + self.high) / 2
        return 10**at if self.log else at

    def beyond(self, x: float) -> bool:
        """Whether a number lies off the drawing."""
        return not self.low <= self._at(x) <= self.high


def number(x: float | None) -> str:
    """Three digits of a number."""
    if x is None or not math.isfinite(x):
        return "not finite"
    return f"{x:.3g}".replace("-", "−")


def threshold(v: Verdict) -> str:
    """What was needed, in words."""
    if v.threshold is None:
        return ""
    if isinstance(v.threshold, list):
        return f"within {number(v.threshold[0])} … {number(v.threshold[1])}"
    return f"{v.direction} {number(v.threshold)}"


def verdict(v: Verdict, outcome: str, again: Iterable[Verdict] = (), small: bool = False) -> Markup:
    """A claim: the side on which it holds, its threshold, interval and value, replications and broken variants.

    Arguments:
        v: The verdict.
        outcome: What it is called.
        again: The same claim on other seeds; a small dot each.
        small: Value and interval only, for lists.
    """
    if v.value is None or v.threshold is None:
        return Markup("")
    bars = v.threshold if isinstance(v.threshold, list) else [v.threshold]
    runs = [] if small else [r for r in again if r.value is not None]
    broken = [] if small else [b for b in v.broken if b["value"] is not None]
    ends = [x for x in (v.low, v.high) if x is not None]
    axis = Axis([v.value, *bars, *ends, *(r.value for r in runs if r.value is not None)], [b["value"] for b in broken])
    at = [axis.percent(x, 0) for x in bars]
    left, right = {"at most": (0, at[0]), "at least": (at[0], 100)}.get(v.direction, (at[0], at[-1]))
    low, high, value = axis.percent(v.low, 0), axis.percent(v.high, 100), axis.percent(v.value, 50)
    height, middle = (26, 13) if small else (92, 38)
    parts = [f'<rect class="zone" x="{left:.2f}%" width="{right - left:.2f}%" y="{middle - 12}" height="24"/>']
    parts += [f'<line class="axis" x1="0" x2="100%" y1="{middle}" y2="{middle}"/>']
    parts += [f'<line class="bar" x1="{x:.2f}%" x2="{x:.2f}%" y1="{middle - 13}" y2="{middle + 13}"/>' for x in at]
    if high - low > 0.05:
        parts += [f'<line class="interval" x1="{low:.2f}%" x2="{high:.2f}%" y1="{middle}" y2="{middle}"/>']
    parts += [f'<circle class="value" cx="{value:.2f}%" cy="{middle}" r="{5 if small else 7}"/>']
    told = f"measured {number(v.value)}"
    if not small:
        bar = sum(at) / len(at)
        parts += [_label(bar, 16, threshold(v), "needed"), _label(value, middle + 26, number(v.value), "measured")]
        parts += [
            f'<circle class="again" cx="{axis.percent(r.value, 50):.2f}%" cy="{middle}" r="3.5">'
            f"<title>other seeds: {number(r.value)}, {escape(r.verdict)}</title></circle>"
            for r in runs
        ]
        parts += _broken(axis, broken)
        if v.low != v.high:
            told += f", between {number(v.low)} and {number(v.high)}"
    told += f"; {threshold(v)} was needed: {outcome}"
    kind = outcome.replace(" ", "-")
    return Markup(  # all text in it went through escape or is a number
        f'<svg class="verdict {kind}{" small" if small else ""}" role="img" aria-label="{escape(told)}" '
        f'width="100%" height="{height}">{"".join(parts)}</svg>'
    )


def _label(percent: float, y: float, text: str, kind: str) -> str:
    anchor = "start" if percent < 15 else "end" if percent > 85 else "middle"
    return f'<text class="{kind}" x="{percent:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _broken(axis: Axis, variants: Sequence[Mapping]) -> list[str]:
    """A cross where a damaged variant came out; those beyond an edge are told of there."""
    parts = []
    for side, percent, anchor in (("left", EDGE, "start"), ("right", 100 - EDGE, "end")):
        off = [b for b in variants if axis.beyond(b["value"]) and (b["value"] > axis.middle) == (side == "right")]
        if off:
            what = number(off[0]["value"]) if len(off) == 1 else f"{len(off)} broken"
            text = f"◂ {what} ×" if side == "left" else f"× {what} ▸"
            title = "; ".join(f"{b['name']}: {number(b['value'])}" for b in off)
            parts.append(_cross(percent, anchor, text, title))
    for b in variants:
        if not axis.beyond(b["value"]):
            title = f"{b['name']}: {number(b['value'])}"
            parts.append(_cross(axis.percent(b["value"], 50), "middle", "×", title))
    return parts


def _cross(percent: float, anchor: str, text: str, title: str) -> str:
    said = f"<title>broken on purpose: {escape(title)}</title>"
    return f'<text class="broken" x="{percent:.2f}%" y="86" text-anchor="{anchor}">{escape(text)}{said}</text>'


def margin(v: Verdict) -> tuple[float, float, float] | None:
    """How far a claim is on the right side of its threshold, with bounds, in [-1, 1]; `None` where nothing says.

    0 is the threshold; the unit is the larger of value and threshold.
    """
    if v.value is None or v.threshold is None:
        return None
    bars = v.threshold if isinstance(v.threshold, list) else [v.threshold]
    if len(bars) == 2:
        half = (bars[1] - bars[0]) / 2 or 1.0
        middle = (bars[0] + bars[1]) / 2

        def share(x: float | None) -> float:
            return -1.0 if x is None else 1 - abs(x - middle) / half
    else:
        sign = 1.0 if v.direction == "at most" else -1.0
        unit = max(abs(v.value), abs(bars[0])) or 1.0

        def share(x: float | None) -> float:
            return -1.0 if x is None else sign * (bars[0] - x) / unit

    ends = sorted((share(v.low), share(v.high)))
    clip = [min(max(x, -1.0), 1.0) for x in (share(v.value), *ends)]
    return clip[0], min(clip[1], clip[0]), max(clip[2], clip[0])


def skyline(records: Iterable[Record], height: int = 120) -> Markup:
    """All claims side by side, each an interval above (it holds) or below (it does not) the line it had to cross."""
    found = [(m, r.outcome(n)) for r in records for n, v in r.quick.items() if (m := margin(v)) is not None]
    if not found:
        return Markup("")
    found.sort(key=lambda row: row[0][0])
    counts = {k: len(list(g)) for k, g in groupby(sorted(o for _, o in found))}

    def y(share: float) -> float:  # the square root spreads what is near the line
        return round(height / 2 * (1 - math.copysign(abs(share) ** 0.5, share) * 0.94), 1)

    bars: dict[str, list[str]] = {}
    for i, ((value, low, high), outcome) in enumerate(found):
        seen = math.copysign(max(abs(value), LEAST), value)
        bars.setdefault(outcome, []).append(f"M{i + 0.5} {y(0)}V{y(seen)}M{i + 0.5} {y(low)}V{y(high)}")
    paths = "".join(f'<path class="{k.replace(" ", "-")}" d="{"".join(d)}"/>' for k, d in bars.items())
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items(), key=lambda row: -row[1]))
    return Markup(
        f'<svg class="skyline" role="img" aria-label="{len(found)} claims: {escape(told)}" width="100%" '
        f'height="{height}" viewBox="0 0 {len(found)} {height}" preserveAspectRatio="none">{paths}'
        f'<path class="line" d="M0 {height / 2}H{len(found)}"/></svg>'
    )


def range_bar(values: Sequence[float | None], shortest: float, longest: float) -> Markup:
    """A median with its interval, ``[median, low, high]``, on a logarithmic line; an open end is at the edge."""
    middle, low, high = values
    if middle is None or middle <= 0 or not 0 < shortest < longest:
        return Markup("")
    axis = Axis([shortest, longest])
    axis.log = True
    axis.low, axis.high = math.log10(shortest), math.log10(longest)
    at, left, right = axis.percent(middle, 50), axis.percent(low or None, EDGE), axis.percent(high, 100 - EDGE)
    return Markup(
        f'<svg class="range" aria-hidden="true" width="100%" height="14">'
        f'<line class="axis" x1="0" x2="100%" y1="7" y2="7"/>'
        f'<line class="interval" x1="{left:.1f}%" x2="{right:.1f}%" y1="7" y2="7"/>'
        f'<circle class="value" cx="{at:.1f}%" cy="7" r="4"/></svg>'
    )


def ticks(low: float, high: float, log: bool = False, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``most`` of them; powers of ten for ``log`` where there are two."""
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        if last > first:
            return [10.0**k for k in range(first, last + 1, -(-(last - first) // (most - 1)))]
    rough = (high - low) / (most - 1)
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def curves(
    named: Mapping[str, Sequence[tuple[float, float, float, float]]], log: bool, title: str, height: int = 280
) -> Markup:
    """Curves with bands: per name, points (x, low, middle, high); ``log`` counts where all are positive."""
    points = [p for curve in named.values() for p in curve if all(map(math.isfinite, p))]
    if len(points) < 2:
        return Markup("")
    log = log and min(p[1] for p in points) > 0
    at = math.log10 if log else float
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[3] for p in points)
    width, tall = (right - left) or 1.0, (at(high) - at(low)) or 1.0

    def down(value: float) -> float:
        return height * (0.03 + 0.94 * (1 - (at(value) - at(low)) / tall))

    def place(x: float, value: float) -> str:
        return f"{1000 * (x - left) / width:.1f} {down(value):.1f}"

    scale, lines, drawn = [], [], []
    for value in ticks(low, high, log):
        y = f"{down(value):.1f}"
        scale.append(f'<text class="tick" x="100%" y="{y}" dy=".35em" text-anchor="end">{number(value)}</text>')
        lines.append(f'<line class="axis" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
    steps = [_label(100 * (x - left) / width, height + 17, f"{x:,.6g}", "tick") for x in ticks(left, right)]
    for i, curve in enumerate(named.values()):
        seen = [p for p in curve if all(map(math.isfinite, p))]
        if len(seen) < 2:
            continue
        band = "L".join([place(p[0], p[3]) for p in seen] + [place(p[0], p[1]) for p in reversed(seen)])
        line = "L".join(place(p[0], p[2]) for p in seen)
        kind = color(i)
        drawn.append(f'<path class="band {kind}" d="M{band}Z"/><path class="curve {kind}" d="M{line}"/>')
    title, inner = escape(title), f'width="100%" height="{height}" viewBox="0 0 1000 {height}"'
    return Markup(  # all text in it went through escape or is a number
        f'<figure class="curves"><svg class="scale" aria-hidden="true" height="{height}">{"".join(scale)}</svg>'
        f'<svg role="img" aria-label="{title}" width="100%" height="{height + 24}">{"".join(lines)}'
        f'<svg {inner} preserveAspectRatio="none">{"".join(drawn)}</svg>{"".join(steps)}</svg>'
        f"<figcaption>{title}{', logarithmic' if log else ''}, over steps</figcaption></figure>"
    )


def color(i: int) -> str:
    """The class of a curve, the same in its key; from the ninth on they are dashed."""
    return f"c{i % 8}" + (" dashed" if i >= 8 else "")
