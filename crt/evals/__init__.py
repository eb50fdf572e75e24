"""Evaluations: how often a trained network is right, and how robust it is; one file each."""

from crt.lazy import lazily

__all__ = ["Evaluation"]

__getattr__ = lazily(__name__, Evaluation="crt.evals.base")
