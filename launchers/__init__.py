"""Where a job runs: each launcher takes waves of jobs, a folder for logs and a profile."""
