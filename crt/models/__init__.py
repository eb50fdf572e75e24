"""Networks: the classifier, its layers, and weights from elsewhere."""
