"""Operations on the colours of images, each with an amount of its own: those of Pillow's ImageEnhance and ImageOps.

Images are uint8, [N, C, H, W], grey or of three colours; amounts are float, [N], on their device. Numbers are rounded
as by torchvision's kernels, which take one amount for all images of a batch.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.errors import UserError

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""
EDGE, CENTRE = 1 / 13, 5 / 13
"""Weights of Pillow's filter SMOOTH, 3x3."""


def grey(images: torch.Tensor) -> torch.Tensor:
    """How bright each pixel is, rounded down: float32, [N, 1, H, W].

    Raises:
        UserError: the images have neither one channel nor three.
    """
    channels = images.shape[1]
    if channels == 1:
        return images.float()
    if channels != 3:
        raise UserError(f"colours are changed in images of 1 or 3 channels, and these have {channels}")
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).floor_()[:, None]


def blended(images: torch.Tensor, others: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """share * image + (1 - share) * other, cut to what bytes hold and rounded down; shares may be over 1."""
    share = shares.double().view(-1, 1, 1, 1)
    mixed = torch.addcmul(images * share.float(), others, (1 - share).float())
    return mixed.clamp_(0, 255).to(torch.uint8)


def brightness(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return blended(images, images.new_zeros((), dtype=torch.float32), factors)


def contrast(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Away from the mean of the grey image, or towards it."""
    return blended(images, grey(images).mean((1, 2, 3), keepdim=True), factors)


def saturation(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Away from the grey image, or towards it."""
    return blended(images, grey(images), factors) if images.shape[1] > 1 else images


def sharpness(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Away from the smoothed image, or towards it; the outermost pixels stay."""
    if min(images.shape[2:]) < 3:
        return images
    channels = images.shape[1]
    kernel = torch.full((channels, 1, 3, 3), EDGE, device=images.device)
    kernel[:, :, 1, 1] = CENTRE
    sharpened = images.float()
    inner = sharpened[:, :, 1:-1, 1:-1]
    smooth = functional.conv2d(sharpened, kernel, groups=channels).round_()
    inner.addcmul_(smooth - inner, (1 - factors.double()).float().view(-1, 1, 1, 1))
    return sharpened.clamp_(0, 255).to(torch.uint8)


def hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue by a share of the colour circle, [-0.5, 0.5], in the space HSV."""
    if images.shape[1] == 1:
        return images
    colours = images.float() / 255
    low, high = torch.aminmax(colours, dim=1)
    span = high - low
    red, green, blue = ((high[:, None] - colours) / span.where(span > 0, 1)[:, None]).unbind(1)
    at_red, at_green = high == colours[:, 0], high == colours[:, 1]
    sixths = torch.where(at_red, blue - green, torch.where(at_green, 2 + red - blue, 4 + green - red))
    sixths = (sixths / 6 + 1).fmod_(1).add_(turns.view(-1, 1, 1)).remainder_(1).mul_(6)
    # Of each colour how far it is below the highest: 0 within a sixth of its own place, all of the span two away.
    own = torch.tensor([0.0, 2.0, 4.0], device=images.device).view(-1, 1, 1)
    away = (sixths[:, None] - own + 3).remainder_(6).sub_(3).abs_()
    turned = torch.addcmul(high[:, None], (away - 1).clamp_(0, 1), span[:, None], value=-1)
    return turned.mul_(255.999).to(torch.uint8)


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Keep the upper bits of each pixel."""
    lowest = (1 << (8 - bits.long())).view(-1, 1, 1, 1)
    return images & (256 - lowest).to(torch.uint8)


def solarize(images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Invert the pixels from a value on."""
    return torch.where(images >= thresholds.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """Stretch each channel from black to white."""
    low, high = (function(images, (2, 3), keepdim=True).float() for function in (torch.amin, torch.amax))
    flat = low == high
    scale = torch.where(flat, 1, (high - low) * (1 / 255))
    return ((images - low.masked_fill(flat, 0)) / scale).clamp_(0, 255).to(torch.uint8)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Spread the values of each channel so that all are about equally frequent."""
    pixels = images.flatten(2).long()
    one = torch.ones((), dtype=torch.long, device=images.device)
    frequent = pixels.new_zeros(*pixels.shape[:2], 256).scatter_add_(2, pixels, one.expand_as(pixels))
    below = frequent.cumsum(2)
    of_highest = frequent.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - of_highest) // 255
    table = (below - frequent + step // 2) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp_(max=255), torch.arange(256, device=images.device))
    return table.to(torch.uint8).gather(2, pixels).view(images.shape)
