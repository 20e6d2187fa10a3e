"""Networks against published counts, closed forms and other implementations."""

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.networks import NETWORKS
from benchmark.networks.backbone import Backbone
from benchmark.networks.preact_resnet import PreActResNet
from benchmark.networks.resnet import ResNet
from benchmark.networks.wide_resnet import WideResNet

ALL = [WideResNet(10, 1), WideResNet(16, 2, "second"), ResNet(18), ResNet(50), PreActResNet(), PreActResNet(1, 2)]


def on_meta(network: Any, in_channels: int = 3, num_outputs: int = 10, **parts: Any) -> Backbone:
    """Shapes without storage."""
    with torch.device("meta"):
        return network.build(in_channels, num_outputs, **parts)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv_multiply_adds(network: nn.Module, size: int) -> int:
    """Of one image: every output value of a convolution takes C_in / groups · k² multiply-adds. Counted by hooks."""
    counts: list[int] = []

    def count(conv: nn.Conv2d, _: Any, output: Tensor) -> None:
        per_value = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
        counts.append(output[0].numel() * per_value)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return sum(counts)


@pytest.mark.parametrize(
    ("network", "num_classes", "published"),
    [
        (WideResNet(28, 10), 10, 36_479_194),
        (WideResNet(28, 10, "second"), 10, 36_479_194),
        (WideResNet(28, 10), 100, 36_536_884),
        (WideResNet(16, 8), 10, 10_961_370),
        (ResNet(18), 10, 11_173_962),
        (ResNet(18), 100, 11_220_132),
        (ResNet(34), 10, 21_282_122),
        (ResNet(50), 10, 23_520_842),
        # 11,171,146 without its last normalisation, which the paper's figure has
        (PreActResNet(), 10, 11_171_146 + 2 * 512),
    ],
)
def test_parameters_are_as_many_as_published(network: Any, num_classes: int, published: int) -> None:
    assert num_parameters(on_meta(network, num_outputs=num_classes)) == published


@pytest.mark.parametrize(("stride_in", "published"), [("first", 5.243e9), ("second", 5.951e9)])
def test_the_two_wide_resnets_take_the_published_multiply_adds(stride_in: Any, published: float) -> None:
    network = on_meta(WideResNet(28, 10, stride_in))
    assert conv_multiply_adds(network, 32) == pytest.approx(published, abs=0.0005e9)
    assert sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d)) == pytest.approx(
        36.455e6, abs=500
    )


def test_multiply_adds_per_group_are_the_published_ones() -> None:
    for stride_in, expected in (("first", [1.678, 1.783, 1.783]), ("second", [1.678, 2.136, 2.136])):
        network, size = on_meta(WideResNet(28, 10, stride_in)), 32
        features = network.stem(torch.empty(1, 3, size, size, device="meta"))
        for group, giga in zip(network.groups, expected, strict=True):
            total = 0

            def count(conv: nn.Conv2d, _: Any, output: Tensor) -> None:
                nonlocal total
                total += output[0].numel() * conv.in_channels * conv.kernel_size[0] ** 2

            for module in group.modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_hook(count)
            features = group(features)
            assert total / 1e9 == pytest.approx(giga, abs=0.0005)


@pytest.mark.parametrize("depth", [10, 16, 22, 28, 34, 40])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_wide_resnets_of_any_depth_and_width_follow_the_closed_form(depth: int, width: int) -> None:
    blocks, channels = (depth - 4) // 6, 16
    expected = 3 * 16 * 9
    for out in (16 * width, 32 * width, 64 * width):
        expected += 2 * channels + 2 * out + 9 * channels * out + 9 * out * out  # first block: two norms, two 3x3
        expected += channels * out if channels != out else 0
        expected += (blocks - 1) * (4 * out + 18 * out * out)
        channels = out
    expected += 2 * channels + 10 * channels + 10
    network = on_meta(WideResNet(depth, width))
    assert num_parameters(network) == expected
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) == depth - 3  # the depth counts the linear layer and the two shortcuts of the paper


@pytest.mark.parametrize("depth", [9, 11, 18, 27, 29])
def test_other_depths_are_an_error(depth: int) -> None:
    with pytest.raises(ValueError, match="6n"):
        WideResNet(depth)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_preact_resnets_widen_all_but_the_stem(width: int) -> None:
    expected, channels = 3 * 64 * 9, 64
    for i in range(4):
        out = 64 * width * 2**i
        expected += 2 * channels + 2 * out + 9 * channels * out + 9 * out * out + 4 * out + 18 * out * out
        expected += channels * out if channels != out or i > 0 else 0
        channels = out
    expected += 2 * channels + 200 * channels + 200
    network = on_meta(PreActResNet(width), num_outputs=200)
    assert num_parameters(network) == expected
    assert network.stem.out_channels == 64


@pytest.mark.parametrize("network", ALL, ids=repr)
def test_convolutions_have_no_bias_and_start_by_kaiming_fan_out(network: Any) -> None:
    torch.manual_seed(0)
    built = network.build(3, 10)
    for module in built.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            std = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
            if module.weight.numel() > 2000:
                assert module.weight.std().item() == pytest.approx(std, rel=0.06)
        if isinstance(module, nn.Linear):
            assert (module.bias == 0).all()
            assert 0.9 < module.weight.abs().max().item() * math.sqrt(module.in_features) <= 1.0
        if isinstance(module, nn.BatchNorm2d):
            assert (module.momentum, module.eps) == (0.1, 1e-5)


class OwnConv(nn.Conv2d):
    pass


class OwnNorm(nn.BatchNorm2d):
    pass


class OwnLinear(nn.Linear):
    pass


@pytest.mark.parametrize("network", ALL, ids=repr)
def test_layers_passed_in_are_used_everywhere(network: Any) -> None:
    plain = on_meta(network, 9, 30)
    own = on_meta(network, 9, 30, conv=OwnConv, norm=OwnNorm, linear=OwnLinear)
    for layer, own_layer in ((nn.Conv2d, OwnConv), (nn.BatchNorm2d, OwnNorm), (nn.Linear, OwnLinear)):
        expected = [name for name, module in plain.named_modules() if isinstance(module, layer)]
        assert [name for name, module in own.named_modules() if isinstance(module, own_layer)] == expected
        assert [name for name, module in own.named_modules() if isinstance(module, layer)] == expected
    owners = {name.rpartition(".")[0] for name, _ in own.named_parameters()}
    assert owners == {name for name, m in own.named_modules() if isinstance(m, OwnConv | OwnNorm | OwnLinear)}
    assert own.stem.in_channels == 9
    assert own.head.classifier.out_features == 30


@pytest.mark.parametrize("network", ALL, ids=repr)
@pytest.mark.parametrize("size", [8, 32, 64])
def test_images_of_any_size_give_one_row_of_logits_each(network: Any, size: int) -> None:
    built = on_meta(network, num_outputs=7)
    x_BCHW = torch.empty(2, 3, size, size, device="meta")
    features = built.stem(x_BCHW)
    halvings = len(built.groups) - 1
    stem_size = features.shape[-1]
    for group in built.groups:
        features = group(features)
    assert features.shape[-1] == -(-stem_size // 2**halvings)
    assert built.trunk(built.stem(x_BCHW)).shape == built(x_BCHW).shape == (2, 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_its_stem_groups_and_head(name: str) -> None:
    network = NETWORKS[name](**{"wide_resnet": {"depth": 10, "width": 1}}.get(name, {})).build(1, 10).eval()
    x_BCHW = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        features = network.stem(x_BCHW)
        for group in network.groups:
            features = group(features)
        torch.testing.assert_close(network(x_BCHW), network.head(features))
    assert isinstance(network.stem, nn.Conv2d)


def randomised(network: nn.Module) -> nn.Module:
    """Norms that do something in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnets_are_torchvisions_behind_a_small_stem(depth: Any) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    reference.conv1, reference.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    randomised(reference)
    network = ResNet(depth).build(3, 10).eval()
    # Both list a block's convolutions and norms in the order they run, the shortcut last.
    pairs = zip(network.state_dict().items(), reference.state_dict().values(), strict=True)
    network.load_state_dict({name: tensor for (name, _), tensor in pairs})
    x_BCHW = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x_BCHW), reference(x_BCHW), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [WideResNet(16, 2), WideResNet(16, 2, "second"), PreActResNet()], ids=repr)
def test_preactivation_networks_are_their_equations(network: Any) -> None:
    """x' = x + conv2(relu(bn2(conv1(relu(bn1(x)))))), x replaced by a projection of relu(bn1(x)) where the shape changes."""
    torch.manual_seed(0)
    built = randomised(network.build(3, 10)).double()
    state = built.state_dict()

    def normalised(x: Tensor, name: str) -> Tensor:
        parts = (state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias"))
        mean, var, gain, offset = parts
        return F.relu((x - mean) / torch.sqrt(var + 1e-5) * gain + offset)

    second = getattr(network, "stride_in", "first") == "second"
    x_BCHW = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    x = F.conv2d(x_BCHW, state["stem.weight"], padding=1)
    for g, group in enumerate(built.groups):
        for i in range(len(group)):
            block, stride = f"groups.{g}.{i}", 2 if g > 0 and i == 0 else 1
            activated = normalised(x, f"{block}.norm1")
            y = F.conv2d(activated, state[f"{block}.conv1.weight"], stride=1 if second else stride, padding=1)
            y = normalised(y, f"{block}.norm2")
            y = F.conv2d(y, state[f"{block}.conv2.weight"], stride=stride if second else 1, padding=1)
            shortcut = state.get(f"{block}.shortcut.weight")
            x = y + (x if shortcut is None else F.conv2d(activated, shortcut, stride=stride))
    pooled = normalised(x, "head.norm").mean((2, 3))
    expected = pooled @ state["head.classifier.weight"].T + state["head.classifier.bias"]
    with torch.no_grad():
        torch.testing.assert_close(built(x_BCHW), expected)


def test_the_port_is_its_equations() -> None:
    """Stride in the second 3x3, shortcuts of the block's raw input, biases everywhere (hjdw2/NFE:wrn.py)."""
    torch.manual_seed(0)
    port = WideResNet(10, 2, stride_in="second", shortcut_from="input", conv_bias=True, last_norm_momentum=0.9)
    built = randomised(port.build(3, 10)).double()
    for module in built.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            nn.init.normal_(module.bias)
    x_BCHW = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    x = built.stem(x_BCHW)
    for g, [block] in enumerate(built.groups):
        y = F.conv2d(F.relu(block.norm1(x)), block.conv1.weight, block.conv1.bias, padding=1)
        y = F.conv2d(F.relu(block.norm2(y)), block.conv2.weight, block.conv2.bias, stride=2 if g else 1, padding=1)
        x = y + F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2 if g else 1)
    expected = built.head.classifier(F.relu(built.head.norm(x)).mean((2, 3)))
    with torch.no_grad():
        torch.testing.assert_close(built(x_BCHW), expected)


def test_the_port_adds_one_bias_per_output_channel_and_no_multiply_adds() -> None:
    plain, port = WideResNet(28, 10, "second"), WideResNet(28, 10, "second", "input", True, 0.9)
    channels = sum(m.out_channels for m in on_meta(plain).modules() if isinstance(m, nn.Conv2d))
    assert num_parameters(on_meta(port)) == num_parameters(on_meta(plain)) + channels
    assert conv_multiply_adds(on_meta(port), 32) == conv_multiply_adds(on_meta(plain), 32)


def test_only_the_last_normalisation_has_the_ports_momentum() -> None:
    """Running statistics become 0.1 old + 0.9 new."""
    network = WideResNet(10, 1, last_norm_momentum=0.9).build(3, 10)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.momentum for norm in norms] == [0.1] * (len(norms) - 1) + [0.9]
    assert norms[-1] is network.head.norm
    x_BCHW = torch.randn(8, 64, 4, 4) + 3
    network.head.norm(x_BCHW)
    torch.testing.assert_close(network.head.norm.running_mean, 0.9 * x_BCHW.mean((0, 2, 3)))


@pytest.mark.parametrize("network", [WideResNet(16, 2, initialisation="truncated_he"),
                                     PreActResNet(initialisation="truncated_he")], ids=["wide", "preact"])  # fmt: skip
def test_truncated_he_has_he_variance_by_fan_in_and_no_tails(network: Any) -> None:
    torch.manual_seed(0)
    built = network.build(3, 200)
    for module in built.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            he = math.sqrt(2 / module.weight[0].numel())
            assert module.weight.abs().max() <= 2 * he / 0.8796
            if module.weight.numel() > 2000:
                assert module.weight.std().item() == pytest.approx(he, rel=0.06)
            assert module.bias is None or (module.bias == 0).all()


def test_mixmos_preact_resnet_ends_in_pooling_alone() -> None:
    torch.manual_seed(0)
    options = {"final_norm": False, "classifier_std": 0.01}
    network = PreActResNet(1, 2, **options).build(3, 200).eval()
    assert network.head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert num_parameters(network) == num_parameters(on_meta(PreActResNet(1, 2), num_outputs=200)) - 2 * 512
    features = torch.randn(2, 512, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(network.head(features), network.head.classifier(features.mean((2, 3))))
