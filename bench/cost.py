"""What the figures cost; prices and the ways to run are those of deploy/costs.py."""

from __future__ import annotations

from bench.figures import PEERS, Samples, shown, spread
from deploy.costs import ANSWER_SECONDS, ANSWERS, PRICES, on_demand, on_instances

DELTAS_A_SECOND = 30
INSTANCE_CORES = 2
INSTANCE_MB = 8192
USED = 0.7
"""How much of an instance is planned with."""


def streams(samples: Samples, peer: str) -> int | None:
    """Return how many streams one instance carries, by CPU and by memory as measured here; None when not measured.

    Node.js has one worker for each stream; its CPU is that of a single paced one.
    """
    figure = "many_cpu" if peer in samples.get("many_cpu", {}) else "cpu_paced"
    if peer not in samples.get(figure, {}):
        return None
    cpu = spread(samples[figure][peer]).median
    by_cpu = INSTANCE_CORES * USED * 1e6 / (DELTAS_A_SECOND * cpu)
    by_memory = float("inf")
    if peer in samples.get("many_memory", {}):
        by_memory = INSTANCE_MB * USED / max(spread(samples["many_memory"][peer]).median, 0.001)
    return int(min(by_cpu, by_memory))


def table(samples: Samples) -> str:
    """Return what a thousand answers cost."""
    rows = [
        f"| {ANSWERS:,} answers of {ANSWER_SECONDS} s, USD ({PRICES.region}, {PRICES.as_of}) | on demand, 512 MB "
        f"| streams on a full {PRICES.instance} | Managed Instances, full | a fifth full |",
        "|---|---:|---:|---:|---:|",
    ]
    for peer, title in PEERS.items():
        count = streams(samples, peer)
        if count:
            full, fifth = on_instances(count), on_instances(max(count // 5, 1))
            rows.append(f"| {title} | {on_demand():.3f} | {shown(count)} | {full:.4f} | {fifth:.4f} |")
    return "\n".join(rows)
