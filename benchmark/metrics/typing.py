"""The arrays that metrics take."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]
Correct = npt.NDArray[np.bool_] | Array
"""Whether images are classified correctly, or how right a place is that images share."""
