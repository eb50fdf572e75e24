"""Training: the loop, the base class of methods, and recipes."""

from crt.lazy import lazily

__all__ = ["Method", "Recipe", "Training"]

__getattr__ = lazily(
    __name__,
    Method="crt.training.method",
    Recipe="crt.training.recipe",
    Training="crt.training.loop",
)
