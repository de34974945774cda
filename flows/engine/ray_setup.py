"""Ray's settings for people at a terminal. Import this before ray: it reads them while it is imported.

Every default gives way to the user's own environment variable.
"""

from __future__ import annotations

import os

DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else it warns of what it will do one day.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
TOKENS = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}


def configure() -> None:
    """Set the defaults; who gives a token for a cluster has it shown there."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if os.environ.keys() & TOKENS:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


configure()
