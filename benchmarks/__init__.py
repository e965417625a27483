"""How long a step takes, side by side with the clip and with the library that the paper's authors wrote."""
