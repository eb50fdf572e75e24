"""Certified and robust training: what is trained, attacked and certified."""
