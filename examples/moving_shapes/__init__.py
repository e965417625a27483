"""A small classifier of how things move in a video, its data, its training and its video files."""
