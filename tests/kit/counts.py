"""How often the invariants are tried: their full counts in `make soak`, about a tenth of them in `make test`."""

import os
import secrets

FULL_COUNTS = "FULL_COUNTS"
"""Set, it asks for the full counts."""
SEED = "TEST_SEED"


def is_full() -> bool:
    return bool(os.environ.get(FULL_COUNTS))


def of(count: int, least: int = 1) -> int:
    """Return how often something is tried that binds `count` times."""
    return count if is_full() else max(count // 10, least)


def seed() -> int:
    """Return a new seed, or the one that is set to repeat a failure; tests show it when they fail."""
    return int(os.environ.get(SEED) or secrets.randbelow(2**32))
