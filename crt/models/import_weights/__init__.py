"""Weights trained elsewhere, read into a classifier."""
