"""Metrics over stored logits: numpy arrays in, numbers out.

Shapes: M members, N images, K classes. Pooling is explicit everywhere: the mean of probabilities and the mean of logits
are two predictors with their own columns.

score.py       a run's logits -> its row: members.pool(pooling) -> Prediction -> the functions of the other files
pooling.py     members: softmax once, pooled in two ways
prediction.py  one pooled prediction: what several metrics share, computed once
"""
