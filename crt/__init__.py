"""Certified and robust training: the library of networks, training methods, attacks and certificates."""

from crt.lazy import lazily

__all__ = ["Threat"]

__getattr__ = lazily(__name__, Threat="crt.threat")
