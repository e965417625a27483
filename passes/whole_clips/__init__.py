"""What looks at the whole clip: gates, mixtures of frames, and the window of last resort."""
