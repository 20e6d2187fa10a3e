"""Networks by the name a study file uses. A network is a dataclass of options with `build(in_channels, num_outputs, …)`."""

from benchmark.networks.preact_resnet import PreActResNet
from benchmark.networks.resnet import ResNet
from benchmark.networks.wide_resnet import WideResNet

NETWORKS = {"wide_resnet": WideResNet, "resnet": ResNet, "preact_resnet": PreActResNet}
