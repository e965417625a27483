"""Streams of other people's tools as oracles: neither the original nor our compiler made these numbers.

The tests run where the tools are installed (``requirements-peers.txt``) and are skipped elsewhere.
"""
