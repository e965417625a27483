"""Small implementations of published video networks, as one would write them in PyTorch from the papers."""
