"""Images in memory: where data sets are found, how they are split, augmented and corrupted."""
