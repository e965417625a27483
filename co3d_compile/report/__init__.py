"""What is known of a compiled network: facts to numbers (build), numbers to text (text) and to a page (page).

Rendering never computes.
"""
