"""Time as numbers: clocks, spans, lengths and index maps. Integers and sympy, no torch."""
