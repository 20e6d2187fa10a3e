"""The limit: a training loop of one network written by hand, with nothing of the bench in it but the network.

Everything that is known to help is in it: images resident on the device as uint8, one gather that crops and flips a
batch, normalisation of whole rows, channels_last, fused SGD, no value read from the device.

Shapes: N images, B of a step, H x W pixels, C channels, L = W * C values of a row of pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PADDING = 4


class BareLoop:
    """SGD with Nesterov momentum on crops and flips of images_NHWC, uint8. `step()` is all there is."""

    def __init__(
        self,
        network: nn.Module,
        images_NHWC: Tensor,
        labels_N: Tensor,
        batch_size: int,
        device: torch.device,
        bf16: bool = False,
    ):
        self.device, self.batch_size, self.bf16 = device, batch_size, bf16
        self.network = network.to(device).to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True
        )
        num_images, self.height, self.width, self.channels = images_NHWC.shape
        border = (0, 0, PADDING, PADDING, PADDING, PADDING)
        self.pixels_PC = F.pad(images_NHWC, border).reshape(-1, self.channels).to(device)
        self.labels_N = labels_N.to(device)
        self.order_N = torch.randperm(num_images, device=device)
        self.top_N = torch.randint(2 * PADDING + 1, (num_images,), device=device)
        self.left_N = torch.randint(2 * PADDING + 1, (num_images,), device=device)
        self.mirrored_N = torch.rand(num_images, device=device) < 0.5
        self.row_H = torch.arange(self.height, device=device)
        self.column_W = torch.arange(self.width, device=device)
        self.scale, self.shift = 1 / 64, -2.0
        self.loss = torch.zeros((), device=device)
        self.position = 0

    def step(self) -> None:
        if self.position + self.batch_size > len(self.order_N):
            self.position = 0
        here = slice(self.position, self.position + self.batch_size)
        self.position += self.batch_size
        image_B = self.order_N[here]
        x_BCHW = self.cropped(image_B, here)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits_BK = self.network(x_BCHW)
        loss = F.cross_entropy(logits_BK.float(), self.labels_N[image_B])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.loss += loss.detach()

    def cropped(self, image_B: Tensor, here: slice) -> Tensor:
        padded_height, padded_width = self.height + 2 * PADDING, self.width + 2 * PADDING
        first_row_B = image_B * padded_height + self.top_N[here]
        row_BH = (first_row_B[:, None] + self.row_H) * padded_width
        column_BW = torch.where(self.mirrored_N[here, None], self.width - 1 - self.column_W, self.column_W)
        column_BW = column_BW + self.left_N[here, None]
        pixel_BHW = row_BH[:, :, None] + column_BW[:, None, :]
        x_BHL = self.pixels_PC.index_select(0, pixel_BHW.view(-1)).view(-1, self.height, self.width * self.channels)
        x_BHL = x_BHL.float().mul_(self.scale).add_(self.shift)
        return x_BHL.view(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)
