"""How fast the flow backends are, and how good."""
