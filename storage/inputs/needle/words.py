"""What needles are about: the words, numbers and names that questions are made of."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What is drawn for a question.

    Attributes:
        qualities: First words of the names of things, and words of notes.
        things: Second words of them, and words of notes.
        digits: Of a code, one of these numbers; it begins with no zero.
        letters: Of a variable's name.
    """

    qualities: tuple[str, ...]
    things: tuple[str, ...]
    digits: tuple[int, ...]
    letters: int

    def name(self, draw: random.Random) -> str:
        """The name of a thing."""
        return f"{draw.choice(self.qualities)} {draw.choice(self.things)}"

    def code(self, draw: random.Random) -> str:
        """A number."""
        digits = self.digits[0] if len(self.digits) == 1 else draw.choice(self.digits)
        return str(draw.randrange(10 ** (digits - 1), 10**digits))

    def variable(self, draw: random.Random) -> str:
        """The name of a variable."""
        return "".join(draw.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.letters))

    def word(self, draw: random.Random) -> str:
        """A word of a note."""
        return draw.choice((*self.qualities, *self.things))


#: Of builtin:needle.
ASKED = Words(
    qualities=(
        "amber", "ancient", "brisk", "calm", "copper", "crooked", "distant", "dusty", "eager", "frozen", "gentle",
        "golden", "hollow", "humble", "ivory", "lonely", "marble", "mellow", "misty", "narrow", "pale", "quiet",
        "rapid", "rugged", "rusty", "silent", "silver", "steep", "sunny", "velvet", "wandering", "wooden",
    ),
    things=(
        "anchor", "bakery", "barn", "beacon", "bridge", "canal", "castle", "cellar", "chapel", "garden", "glacier",
        "harbour", "island", "kettle", "ladder", "lantern", "library", "meadow", "mill", "orchard", "palace", "pier",
        "quarry", "river", "saddle", "station", "tavern", "temple", "tower", "valley", "violin", "workshop",
    ),
    digits=(7,),
    letters=5,
)  # fmt: skip
#: Of what a model may learn from: no word, number or name of it is one of builtin:needle.
PRACTISED = Words(
    qualities=(
        "blue", "bold", "bright", "broad", "clever", "cold", "curly", "dark", "deep", "early", "empty", "faded",
        "fancy", "flat", "foggy", "fresh", "green", "grey", "heavy", "honest", "iron", "jolly", "kind", "large",
        "loud", "lucky", "noble", "old", "painted", "plain", "polite", "proud", "purple", "round", "salty", "sharp",
        "short", "simple", "sleepy", "small", "smooth", "soft", "stone", "strange", "striped", "tall", "thin",
        "tidy", "tiny", "warm", "white", "wild", "windy", "yellow",
    ),
    things=(
        "apple", "attic", "basket", "bell", "boat", "bottle", "button", "cabin", "candle", "carpet", "cave", "chair",
        "clock", "cloud", "desk", "door", "drum", "engine", "farm", "fence", "field", "forest", "fountain", "gate",
        "guitar", "hammer", "hat", "hill", "hotel", "jacket", "lake", "lamp", "market", "mirror", "museum", "needle",
        "office", "oven", "park", "pencil", "piano", "plate", "pocket", "road", "roof", "school", "shelf", "ship",
        "shop", "spoon", "stable", "street", "table", "tent", "theatre", "train", "tree", "tunnel", "village",
        "wagon", "wall", "wheel", "window",
    ),
    digits=(4, 5, 6, 8, 9, 10),
    letters=4,
)  # fmt: skip
