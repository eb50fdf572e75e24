"""Network bodies: each factory takes no argument and returns (body, number of features)."""
