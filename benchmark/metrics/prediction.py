"""One prediction of N labelled images, with what several metrics need of it computed once."""

import numpy as np

from benchmark.metrics.accuracy import predicted_class
from benchmark.metrics.calibration import briers, nlls
from benchmark.metrics.ranking import rank
from benchmark.metrics.typing import Array, Labels


class Prediction:
    """From normalised log p_NK: probabilities, the predicted class (of equal ones the first), whether it is the label,
    its probability, the losses of each image, and `ranked`, which metrics of confidence take: confidences, highest
    first, and how right each place is."""

    def __init__(self, log_p_NK: Array, labels_N: Labels):
        self.log_p_NK, self.labels_N = log_p_NK, labels_N
        self.p_NK = np.exp(log_p_NK)
        self.class_N = predicted_class(log_p_NK)
        self.correct_N = self.class_N == labels_N
        highest_N = np.take_along_axis(self.p_NK, self.class_N[:, None], axis=-1)[:, 0]
        self.confidence_N = np.minimum(highest_N, 1)  # rounding may lift it over 1
        self.nll_N = nlls(log_p_NK, labels_N)
        self.brier_N = briers(self.p_NK, labels_N)
        self.ranked = rank(self.confidence_N, self.correct_N)
