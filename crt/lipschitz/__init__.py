"""Deterministic l2 bounds of networks that are chains of layers: norms, balls, boxes, worst logits."""
