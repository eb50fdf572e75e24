"""What runs on a node: training, evaluation, timing, and the data they need."""
