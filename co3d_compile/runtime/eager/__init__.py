"""The engine in plain torch, which every other engine is checked against."""
