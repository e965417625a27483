"""The compiled network that a user holds."""

from __future__ import annotations

from co3d_compile.runtime.module import StreamingModule


class Network(StreamingModule):
    """A continual network: ``step``, ``stream``, ``forward``, and what is known of it."""
