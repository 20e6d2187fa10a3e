"""Metrics over stored logits: numpy arrays in, numbers out.

Shapes: M members, N images, K classes. Pooling is explicit everywhere: the mean of probabilities and the mean of logits
are two predictors with their own columns.
"""
