"""The smallest state: forms and firing ticks, chosen together."""
