"""How fast training is on this machine: `python -m benchmark.speed`."""
