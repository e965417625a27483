"""What runs a plan: state, engines, streams, and the network that a user holds."""
