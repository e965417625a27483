"""The structure of inputs and outputs, as torch writes it down; a file may hold plain containers only."""

from __future__ import annotations

import json
from typing import Any

from co3d_compile.errors import ArtifactError

PLAIN = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})


def require_plain_structure(structure: str) -> None:
    """Refuse containers whose type would have to be imported: reading them back would run code of the model's.

    Raises:
        ArtifactError: a container is not a tuple, list, dict or OrderedDict, or a key of one is not plain.
    """
    try:
        _, spec = json.loads(structure)
        types = _types(spec)
    except (ValueError, TypeError, KeyError) as failure:
        raise ArtifactError("the plan's output structure cannot be read\n  try: compile the model again") from failure
    # torch imports what an enum names as its own
    strange = sorted(types - PLAIN) + ["an enum as a key"] * ("__enum__" in structure)
    if strange:
        raise ArtifactError(
            f"the model's inputs or outputs are in containers that a file cannot hold: {', '.join(strange)}\n"
            "  try: a model that takes and returns tensors, tuples, lists or dicts"
        )


def _types(spec: Any) -> set[str]:
    """The names of the container types in a tree; a leaf has none."""
    own = set() if spec["type"] is None else {str(spec["type"])}
    return own.union(*(_types(child) for child in spec["children_spec"]))
