"""Network bodies: each factory takes nothing and returns (body, width of its features)."""
