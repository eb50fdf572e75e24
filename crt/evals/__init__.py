"""Evaluations of a trained network's accuracy and robustness, one file each."""

from crt.lazy import lazily

__all__ = ["Evaluation"]

__getattr__ = lazily(__name__, Evaluation="crt.evals.base")
