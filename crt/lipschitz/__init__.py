"""Deterministic l2 bounds for networks that are chains of layers: norms, balls, boxes, worst logits."""
