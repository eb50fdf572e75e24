"""Attacks shared by training and evaluation."""
