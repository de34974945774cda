"""The settings of all analyses together: a section for each question that has some, and none is listed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from indexscope.analysis import questions
from indexscope.settings import Frozen

if TYPE_CHECKING:

    class AnalysisSettings(Frozen):
        """The settings of each analysis, by the name of its question."""

        def __getattr__(self, name: str) -> Any: ...

else:
    AnalysisSettings = create_model(
        "AnalysisSettings",
        __base__=Frozen,
        __module__=__name__,
        __doc__="The settings of each analysis, by the name of its question.",
        **{
            name: (kind, Field(default=kind(), description=kind.__doc__))
            for name, kind in questions.settings(Frozen).items()
        },
    )
