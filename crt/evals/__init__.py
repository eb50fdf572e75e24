"""Evaluations: what a network predicts, and within what radius that stands."""
