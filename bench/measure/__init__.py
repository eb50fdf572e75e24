"""Measurement: the clock, and the machine that the measured code runs on."""
