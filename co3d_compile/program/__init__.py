"""The annotated graph: a ``torch.fx`` graph in one vocabulary, whose every node has facts."""
