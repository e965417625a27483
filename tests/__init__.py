"""Tests. Support: ``law`` (the oracle), ``networks`` (random networks)."""
