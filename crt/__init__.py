"""Certified and robust training: what is trained, attacked and certified."""

from crt.lazy import lazily

__all__ = ["Threat"]

__getattr__ = lazily(__name__, Threat="crt.threat")
