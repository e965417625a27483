"""From an ``nn.Module`` or a file to a program in one vocabulary."""
