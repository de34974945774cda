"""Content addresses: a step's directory is named by everything that determines its bytes, and nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from indexscope.storage.store.json_types import JSON, canonical_json, plain_json

#: Version of the store's layout and of the tables in it. It is part of every digest.
SCHEMA_VERSION = 1
DIGEST_LENGTH = 20
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class StepKey:
    """The address of one step's results.

    Attributes:
        kind: What the step makes: "features", "analyses/distribution", …
        digest: Hexadecimal hash of kind, inputs and schema version.
        inputs: What was hashed, kept so that a manifest can say why two digests differ.
    """

    kind: str
    digest: str
    inputs: Mapping[str, JSON] = field(compare=False, repr=False)

    @property
    def path(self) -> str:
        """Folder of the step, relative to the store."""
        return f"{self.kind}/{self.digest}"


def step_key(kind: str, inputs: Mapping[str, JSON]) -> StepKey:
    """Address a step by the inputs that determine its bytes.

    Args:
        kind: Slash-separated lower-case words.
        inputs: JSON-able values only; tuples count as lists.

    Raises:
        TypeError: An input that has no canonical JSON form (a model, a path, a numpy scalar).
        ValueError: An input that is not finite, or a kind that cannot name a folder.

    >>> step_key("features", {"seed": 0}) == step_key("features", {"seed": 0})
    True
    """
    for word in kind.split("/"):
        check_name(word, "kind")
    text = canonical_json({"kind": kind, "inputs": inputs, "schema_version": SCHEMA_VERSION})
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
    copied = plain_json(inputs)
    assert isinstance(copied, dict)
    return StepKey(kind, digest, copied)


def key_at(path: str) -> StepKey:
    """The address of a step that is named by its folder, as the records of studies name it; its inputs are not known.

    >>> key_at("analyses/context_length/abc").kind
    'analyses/context_length'
    """
    kind, _, digest = path.rpartition("/")
    return StepKey(kind, digest, {})


def check_name(name: str, what: str) -> str:
    """Return a kind, unit or table name that is safe as a file name, or raise ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} is not lower-case letters, digits, dashes, dots and underscores")
    return name
