"""The commands: arguments and printing, no logic."""
