"""Attacks that training and evaluation share."""
