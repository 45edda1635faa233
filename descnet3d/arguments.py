"""Checks of single arguments, whose messages name them."""

from __future__ import annotations

from typing import Any

import numpy as np


def seed_of(seed: Any) -> int:
    """The seed itself, or a new one for None.

    Raises:
        ValueError: when it is no seed.
    """
    if seed is None:
        return int(np.random.default_rng().integers(2**31))
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2³² - 1, but it is {seed!r}.")
    return int(seed)


def require_positive_integer(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument, unless its value is a positive integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, but it is {value!r}.")
