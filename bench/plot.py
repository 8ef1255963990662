"""A picture of the medians: bars on a logarithmic scale, one group for each figure. Plain SVG."""

from __future__ import annotations

import math

from bench.figures import FIGURES, Samples, shown, spread

SHOWN = ("first_p50", "cpu_flat", "cpu_paced", "many_p50", "many_cpu", "cancel_p50", "cancel_silent_p50", "cold_pyc")
COLOURS = {
    "raw": ("#b8c0cc", "floor: raw passthrough"),
    "httpx": ("#8593a6", "floor: passthrough with httpx"),
    "node": ("#7fae6e", "Node.js, AWS's client"),
    "hello": ("#d9b86a", "FastAPI + Mangum hello world"),
    "naive-servers": ("#d77a61", "naive: FastAPI, uvicorn, ORM"),
    "ours-servers": ("#2f6fde", "this service"),
}
WIDTH, LABEL, BAR, GAP, TOP = 860, 330, 15, 20, 64
SCALE = 380


def plot(samples: Samples) -> str:
    """Return the picture. Without servers, what ran on embedded stores stands for them."""
    parts: list[str] = []
    y = TOP
    for figure in SHOWN:
        bars = _bars(samples, figure)
        if not bars:
            continue
        parts.append(f'<text x="{LABEL - 12}" y="{y + BAR}" text-anchor="end">{FIGURES[figure]}</text>')
        most = max(value for _, value in bars)
        for colour, value in bars:
            width = max(2.0, SCALE * (1 + math.log10(value / most) / 4))
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.0f}" height="{BAR - 3}" fill="{colour}"/>')
            parts.append(f'<text x="{LABEL + width + 6:.0f}" y="{y + BAR - 5}" class="v">{shown(value)}</text>')
            y += BAR
        y += GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">'
        f'<style>.v{{font-size:10px;fill:#555}}</style><rect width="{WIDTH}" height="{y}" fill="#fff"/>'
    )
    return "\n".join([head, *_legend(), *parts, "</svg>"]) + "\n"


def _bars(samples: Samples, figure: str) -> list[tuple[str, float]]:
    values = samples.get(figure, {})
    found = []
    for name, (colour, _) in COLOURS.items():
        mine = values.get(name) or values.get(name.removesuffix("-servers"))
        if mine:
            found.append((colour, spread(mine).median))
    return found


def _legend() -> list[str]:
    found = ['<text x="16" y="18">Less is better; each group has a logarithmic scale of its own.</text>']
    for number, (colour, title) in enumerate(COLOURS.values()):
        x, y = 16 + 285 * (number % 3), 28 + 16 * (number // 3)
        found.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
        found.append(f'<text x="{x + 15}" y="{y + 9}" class="v">{title}</text>')
    return found
