"""Networks: the classifier, its layers, and imported weights."""

from crt.lazy import lazily

__all__ = ["Classifier"]

__getattr__ = lazily(__name__, Classifier="crt.models.classifier")
