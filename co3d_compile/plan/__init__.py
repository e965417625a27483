"""The plan: the compiled network as data. Engines run it, the file stores it, the report reads it."""
