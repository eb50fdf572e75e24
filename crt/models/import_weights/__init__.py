"""Import of weights trained elsewhere into a classifier."""
