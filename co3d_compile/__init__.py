"""co3d-compile: a trained 3D CNN in, an exact streaming network out."""

from co3d_compile.api import compile, load
from co3d_compile.capture.step_rules import StepRule
from co3d_compile.errors import Co3dError
from co3d_compile.network import Network
from co3d_compile.runtime.state import State, join_states
from co3d_compile.runtime.stream import Stream

__all__ = ["Co3dError", "Network", "State", "StepRule", "Stream", "compile", "join_states", "load"]
