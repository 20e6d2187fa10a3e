"""What a device reports to have used: joules since its driver was loaded, by NVML. CPUs report nothing here."""

from collections.abc import Callable

import torch

Meter = Callable[[], float]


def energy_meter(device: torch.device) -> Meter | None:
    """A function that reads the joules used so far; None where the device tells none.

    NVML counts the whole board, whatever runs on it: runs side by side on one GPU are each charged for all of them.
    Known by UUID, since CUDA_VISIBLE_DEVICES renumbers devices for CUDA and not for NVML. GPUs before Volta and parts of
    a GPU (MIG) have no counter.
    """
    if device.type != "cuda":
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        board = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(board)) / 1000
