"""The methods once more, slowly, from the papers: float64 NumPy and plain loops, sharing no code with vizcore.

Only the forward pass itself is torch's. `scores` and `scores_behind` are the two ways to run it: from the picture,
or from given maps of a layer on. Sizes are h, w for maps and height, width for pictures.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vizcore.records import Model


def net_input(model: Model, pixels: np.ndarray) -> Tensor:
    """(3, height, width) in [0, 1] to what the net's first layer receives, (1, C, height, width)."""
    if len(model.mean) == 1:
        channels = [0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]]
    else:
        channels = [pixels[0], pixels[1], pixels[2]]
    channels = [(x - m) / s for x, m, s in zip(channels, model.mean, model.std, strict=True)]
    return as_tensor(model, np.stack(channels))[None]


def as_tensor(model: Model, numbers: np.ndarray) -> Tensor:
    return torch.from_numpy(numbers).to(next(model.net.parameters()).dtype)


def scores(model: Model, pixels: np.ndarray) -> np.ndarray:
    """(K,) logits of one picture."""
    with torch.no_grad():
        return model.net(net_input(model, pixels))[0].double().numpy()


def maps_of(model: Model, layer: str, pixels: np.ndarray) -> np.ndarray:
    """(C, h, w) that the layer returns, copied at once."""
    caught = []

    def catch(module: object, args: object, output: Tensor) -> None:
        caught.append(output.detach().clone())

    handle = model.net.get_submodule(layer).register_forward_hook(catch)
    scores(model, pixels)
    handle.remove()
    (maps,) = caught
    return maps[0].double().numpy()


def scores_behind(model: Model, layer: str, pixels: np.ndarray, maps: Tensor) -> Tensor:
    """(K,) logits with the layer's output replaced by ``maps`` (C, h, w); differentiable in them."""
    handle = model.net.get_submodule(layer).register_forward_hook(lambda module, args, output: maps[None].clone())
    logits = model.net(net_input(model, pixels))[0]
    handle.remove()
    return logits


def gradient_of(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """∂s/∂A, (C, h, w), by differentiation of the net behind the layer."""
    maps = as_tensor(model, maps_of(model, layer, pixels)).requires_grad_()
    (gradient,) = torch.autograd.grad(scores_behind(model, layer, pixels, maps)[target], maps)
    return gradient.double().numpy()


def gradient_by_differences(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """∂s/∂A, (C, h, w), from the definition: two forward passes a number."""
    maps = maps_of(model, layer, pixels)
    gradient = np.zeros_like(maps)
    step = 1e-5
    for place in np.ndindex(maps.shape):
        above, below = maps.copy(), maps.copy()
        above[place] += step
        below[place] -= step
        with torch.no_grad():
            up = scores_behind(model, layer, pixels, torch.from_numpy(above))[target]
            down = scores_behind(model, layer, pixels, torch.from_numpy(below))[target]
        gradient[place] = float(up - down) / (2 * step)
    return gradient


def cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Zhou et al. 2016, equation 2: M(x, y) = Σ_c w_c · A_c(x, y)."""
    weights = model.net.get_submodule(model.layers["classifier"]).weight[target].double().numpy()
    return weighted(weights, maps_of(model, layer, pixels))


def grad_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2: α_c = 1/Z Σ_ij ∂s/∂A_cij; relu(Σ_c α_c A_c)."""
    maps, gradient = maps_of(model, layer, pixels), gradient_of(model, layer, pixels, target)
    weights = []
    for channel in gradient:
        total = 0.0
        for place in np.ndindex(channel.shape):
            total += channel[place]
        weights.append(total / channel.size)
    return relu(weighted(weights, maps))


def grad_cam_pp(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Chattopadhay et al. 2018, equations 7 and 19: α = g² / (2 g² + Σ_ab A_ab · g³), w = Σ α relu(g)."""
    maps, gradient = maps_of(model, layer, pixels), gradient_of(model, layer, pixels, target)
    weights = []
    for channel, slopes in zip(maps, gradient, strict=True):
        total, mass = 0.0, channel.sum()
        for place in np.ndindex(channel.shape):
            g = slopes[place]
            below = 2 * g**2 + mass * g**3
            alpha = g**2 / below if below != 0 else 0.0
            total += alpha * max(g, 0.0)
        weights.append(total)
    return relu(weighted(weights, maps))


def xgrad_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Fu et al. 2020: w_c = Σ_ij A_cij / Σ_ab A_cab · ∂s/∂A_cij."""
    maps, gradient = maps_of(model, layer, pixels), gradient_of(model, layer, pixels, target)
    weights = []
    for channel, slopes in zip(maps, gradient, strict=True):
        total, mass = 0.0, channel.sum()
        for place in np.ndindex(channel.shape):
            if mass != 0:
                total += channel[place] / mass * slopes[place]
        weights.append(total)
    return relu(weighted(weights, maps))


def hires_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Draelos & Carin 2020: Σ_c ∂s/∂A_c ⊙ A_c, without a ReLU."""
    maps, gradient = maps_of(model, layer, pixels), gradient_of(model, layer, pixels, target)
    heat = np.zeros(maps.shape[1:])
    for c, i, j in np.ndindex(maps.shape):
        heat[i, j] += gradient[c, i, j] * maps[c, i, j]
    return heat


def layer_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Jiang et al. 2021: w_cij = relu(∂s/∂A_cij), relu(Σ_c w_cij A_cij)."""
    maps, gradient = maps_of(model, layer, pixels), gradient_of(model, layer, pixels, target)
    heat = np.zeros(maps.shape[1:])
    for c, i, j in np.ndindex(maps.shape):
        heat[i, j] += max(gradient[c, i, j], 0.0) * maps[c, i, j]
    return relu(heat)


def eigen_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Muhammad & Yeasin 2020: the maps projected on their first right singular vector, not centred.

    Here that vector comes from the eigenvectors of the C × C products. Of the two signs, the one with a sum ≥ 0.
    """
    maps = maps_of(model, layer, pixels)
    products = np.zeros((len(maps), len(maps)))
    for a, b in np.ndindex(products.shape):
        products[a, b] = (maps[a] * maps[b]).sum()
    _, vectors = np.linalg.eigh(products)  # ascending
    heat = weighted(vectors[:, -1], maps)
    return heat if heat.sum() >= 0 else -heat


def score_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Wang et al. 2020: w = softmax_c s(X ⊙ norm(up(A_c))), relu(Σ_c w_c A_c).

    Masks multiply the picture itself, in [0, 1]. A constant map has no norm; it hides everything.
    """
    maps = maps_of(model, layer, pixels)
    kept = []
    for channel in maps:
        mask = upsampled(channel, pixels.shape[1:])
        low, high = mask.min(), mask.max()
        mask = (mask - low) / (high - low) if channel.min() < channel.max() else np.zeros_like(mask)
        kept.append(scores(model, pixels * mask)[target])
    powers = [math.exp(score - max(kept)) for score in kept]
    return relu(weighted([power / sum(powers) for power in powers], maps))


def ablation_cam(model: Model, layer: str, pixels: np.ndarray, target: int) -> np.ndarray:
    """Ramaswamy & Desai 2020: w_c = (s − s_c) / s with channel c set to 0, relu(Σ_c w_c A_c)."""
    maps = maps_of(model, layer, pixels)
    whole = scores(model, pixels)[target]
    weights = []
    for c in range(len(maps)):
        ablated = maps.copy()
        ablated[c] = 0
        with torch.no_grad():
            without = scores_behind(model, layer, pixels, as_tensor(model, ablated))[target]
        weights.append((whole - float(without)) / whole)
    return relu(weighted(weights, maps))


def weighted(weights: object, maps: np.ndarray) -> np.ndarray:
    heat = np.zeros(maps.shape[1:])
    for weight, channel in zip(weights, maps, strict=True):
        heat += weight * channel
    return heat


def relu(heat: np.ndarray) -> np.ndarray:
    return np.where(heat > 0, heat, 0.0)


def upsampled(channel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, with pixels as areas: the centre of pixel i of n lies at (i + 1/2) / n. Beyond centres, constant."""
    out = np.zeros(size)
    for row, column in np.ndindex(*size):
        y = min(max((row + 0.5) * channel.shape[0] / size[0] - 0.5, 0.0), channel.shape[0] - 1.0)
        x = min(max((column + 0.5) * channel.shape[1] / size[1] - 0.5, 0.0), channel.shape[1] - 1.0)
        top, left = int(y), int(x)
        low, right = min(top + 1, channel.shape[0] - 1), min(left + 1, channel.shape[1] - 1)
        above = channel[top, left] * (1 - (x - left)) + channel[top, right] * (x - left)
        below = channel[low, left] * (1 - (x - left)) + channel[low, right] * (x - left)
        out[row, column] = above * (1 - (y - top)) + below * (y - top)
    return out


def starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along an axis: step until one reaches the border, or would begin beyond it."""
    found, at = [], 0
    while at < size:
        found.append(at)
        if at + window >= size:
            break
        at += stride
    return found


def occlusion(
    model: Model,
    pixels: np.ndarray,
    target: int,
    window: tuple[int, int],
    stride: tuple[int, int],
    baseline: np.ndarray,
    score: str = "logit",
) -> np.ndarray:
    """Zeiler & Fergus 2014, section 4.2. Pixel by pixel: the mean of the drops of the windows that cover it."""
    height, width = pixels.shape[1:]

    def score_of(shown: np.ndarray) -> float:
        logits = scores(model, shown)
        if score == "logit":
            return logits[target]
        powers = np.exp(logits - logits.max())
        return powers[target] / powers.sum()

    whole = score_of(pixels)
    drops = {}
    for top in starts(height, window[0], stride[0]):
        for left in starts(width, window[1], stride[1]):
            shown = pixels.copy()
            for row in range(top, min(top + window[0], height)):
                for column in range(left, min(left + window[1], width)):
                    shown[:, row, column] = baseline[:, row, column]
            drops[top, left] = whole - score_of(shown)
    heat = np.zeros((height, width))
    for row, column in np.ndindex(height, width):
        covering = [
            drop
            for (top, left), drop in drops.items()
            if top <= row < top + window[0] and left <= column < left + window[1]
        ]
        heat[row, column] = sum(covering) / len(covering) if covering else 0.0
    return heat


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur cut beyond 3 σ, edges repeated: (3, height, width)."""
    reach = int(3 * sigma) + 1
    offsets = np.arange(-reach, reach + 1)
    bell = np.array([math.exp(-(n**2) / (2 * sigma**2)) for n in offsets])
    bell /= bell.sum()
    _, height, width = pixels.shape
    across, out = np.zeros_like(pixels), np.zeros_like(pixels)
    for column in range(width):
        for n, share in zip(offsets, bell, strict=True):
            across[:, :, column] += share * pixels[:, :, min(max(column + n, 0), width - 1)]
    for row in range(height):
        for n, share in zip(offsets, bell, strict=True):
            out[:, row] += share * across[:, min(max(row + n, 0), height - 1)]
    return out
