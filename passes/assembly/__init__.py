"""Time taken apart and put together again, in whatever spelling, as cuts and paddings of one stream."""
