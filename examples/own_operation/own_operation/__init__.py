"""A torch operator of one's own, and the rule by which co3d-compile streams it."""

from own_operation.operator import TemporalFilter, temporal_filter

__all__ = ["TemporalFilter", "temporal_filter"]
