"""The soak itself, short: all its kinds of streams, a kill and faults of each store (invariant 20)."""

import pytest

from tests.soak.plan import KINDS
from tests.soak.session import Wanted, soak

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_a_short_soak_breaks_no_promise_and_meets_every_kind_of_stream():
    outcome = await soak(Wanted(seconds=7, streams=10, seed=20, pace_seconds=0.05))
    assert outcome.broken == []
    figures = outcome.figures
    assert set(figures["by kind"]) == set(KINDS)
    assert {"completed", "failed", "cancelled"} <= set(figures["by status"])
    assert "killed" in figures["faults"]
    assert figures["deltas"] > 200
    assert figures["connections at rest"]["ai"] == 0
