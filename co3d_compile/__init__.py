"""co3d-compile: a trained 3D CNN in, an exact streaming network out."""

from co3d_compile.api import compile, load
from co3d_compile.network import Network

__all__ = ["Network", "compile", "load"]
