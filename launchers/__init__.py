"""Launchers: each takes waves of jobs, a folder for logs and a profile, and runs the jobs in one place."""

from launchers.former_names import register

register()
