"""Launchers: each runs waves of jobs in one place (this process, this machine, or Slurm)."""

from launchers.former_names import register

register()
