"""Tutti: a reproducibility bench for ensemble methods. Everything here is the same for every method."""
