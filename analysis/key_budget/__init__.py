"""How many keys each layer would need, fixed for all queries or chosen for each, and how its scores drift."""

from __future__ import annotations

from indexscope.analysis.settings import BootstrapSettings


class KeyBudgetSettings(BootstrapSettings):
    """How many keys keep how much of the attention; drift of the scores."""
