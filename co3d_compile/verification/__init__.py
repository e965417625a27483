"""Does the stream give what the original gives? The original, unmodified model on the whole video is the oracle."""
