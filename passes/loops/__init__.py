"""Loops over frames, recurrent layers and sums over time, as recurrences that carry their state."""
