"""What changed between the models' choices: overlap of selections, what was dropped and added, and where."""

from indexscope.analysis.choices.run import choice_metrics, choices

__all__ = ["choice_metrics", "choices"]
