"""Training: the loop, the base class of methods, and recipes."""
