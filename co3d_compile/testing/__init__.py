"""For those who write rules of their own: the same checks that the built-in rules pass."""

from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law, windows_of
from co3d_compile.testing.operation import check_operation

__all__ = ["check_law", "check_operation", "make_alive", "wandering_video", "windows_of"]
