"""What is known of a compiled network: facts to numbers (build), numbers to text (text). Rendering never computes."""
