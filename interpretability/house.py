"""Where the notebook's figures come from and go to: house style, files, and the notebook's own page."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any

from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.style import WIDTH, house_style, new_figure, styled
from interpretability.folder import Folder

SUFFIXES = (".png", ".svg", ".pdf")
DPI = 150


class HouseStyle:
    """A class whose public methods, those of subclasses included, draw in the house style.

    A subclass adds a plot of its own like this:

        class Mine(AttentionVisualizer):
            def visualize_diagonal(self, attention_weights, save_path=None):
                figure = self.figure(height=3)
                axes = figure.subplots()
                ...
                return self._finish(figure, save_path)
    """

    _folder: Folder | None = None
    _called = "figure"

    def __init_subclass__(cls, **options: Any) -> None:
        """Have the public methods of the subclass run in the house style, and name the pictures that they make."""
        super().__init_subclass__(**options)
        for name, method in list(vars(cls).items()):
            if isinstance(method, FunctionType) and not name.startswith("_"):
                setattr(cls, name, _naming(name.removeprefix("visualize_"), styled(method)))

    def figure(self, height: float = 3.6, width: float = WIDTH) -> Drawing:
        """An empty figure of this size in inches, laid out so that labels do not overlap."""
        return new_figure(height, width)

    def _finish(self, figure: Drawing, save_path: str | Path | None = None) -> Drawing:
        """Save a figure, show it if this is a notebook, and hand it back.

        It is saved where the path says, without one in the object's folder, if that has one.

        Raises:
            ValueError: The path does not end in .png, .svg or .pdf.
        """
        if self._folder is not None:
            save_path = self._folder.place(self._called, save_path)
        finish(figure, save_path)
        return figure


def _naming(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Have the object know, while a method runs, what its pictures are called."""

    @wraps(method)
    def wrapper(self: HouseStyle, *args: Any, **options: Any) -> Any:
        before, self._called = self._called, name
        try:
            return method(self, *args, **options)
        finally:
            self._called = before

    return wrapper


def finish(figure: Figure, save_path: str | os.PathLike[str] | None) -> None:
    """Save a figure if there is a path, and show it if this is a notebook.

    Raises:
        ValueError: As `save`.
    """
    if save_path is not None:
        save(figure, save_path)
    if isinstance(figure, Drawing) and in_notebook():
        figure._ipython_display_()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, SVG or PDF, on white; the same figure gives the same bytes.

    Raises:
        ValueError: The path ends in something else, or cannot be written.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"save_path {str(path)!r} ends in {suffix or 'no suffix'!r}; give .png, .svg or .pdf")
    told: dict[str, str | None] = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }[suffix]  # type: ignore[assignment]
    with house_style(**{"svg.hashsalt": "indexscope"}), warnings.catch_warnings():
        # Texts of tokens may hold any character; what the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        try:
            figure.savefig(path, format=suffix[1:], dpi=DPI, facecolor="white", metadata=told)
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(
                f"save_path {str(path)!r} cannot be written ({reason}); give a file in a folder that exists"
            ) from error


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; never in scripts, tests and plain shells."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
