"""Sweeps under random faults, and many runs in one command: how long all stays right, and flat."""
