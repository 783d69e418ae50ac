"""An adversary of the autoencoder's decoder: patches of clips, true or reconstructed.

Hinge loss (Lim and Ye 2017, arXiv:1705.02894) on patches (Isola et al. 2017, arXiv:1611.07004), and the
distance of its own features between a clip and its reconstruction (Larsen et al. 2016, arXiv:1512.09300).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from recapture.models.training.parallel import ALONE, Workers

WIDTHS = (32, 64, 128, 128)


class PatchDiscriminator(nn.Module):
    """Says of patches of clips [B, 3, T, H, W] how true they look; sees 4 frames and 46 pixels of each."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers, before = [], 3
        for index, width in enumerate(widths):
            last = index == len(widths) - 1
            time, step = (1 if index == 0 else 3), (1 if last else 2)
            kernel = (time, 3, 3) if last else (time, 4, 4)
            padding = (time // 2, 1, 1)
            layers.append(nn.Conv3d(before, width, kernel, (1, step, step), padding))
            before = width
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths[1:])
        self.verdict = nn.Conv3d(before, 1, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, video: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return verdicts [B, 1, T, h, w], higher for true ones, and the features of every layer."""
        x, features = video, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index:
                x = self.norms[index - 1](x)
            x = leaky_relu(x, 0.2)
            features.append(x)
        return self.verdict(x), features


class Adversary:
    """A discriminator with its optimizer: `gradient` for the decoder, then `learn` for itself."""

    def __init__(
        self,
        seed: int,
        device: torch.device,
        rate: float,
        workers: Workers = ALONE,
        widths: tuple[int, ...] = WIDTHS,
    ) -> None:
        torch.manual_seed(seed)
        self.model = PatchDiscriminator(widths).to(device)
        self._optimizer = torch.optim.Adam(self.model.parameters(), rate, betas=(0.5, 0.9))
        self._workers = workers
        self._cast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        for parameter in self.model.parameters():  # so that the state has its shape from the start
            parameter.grad = torch.zeros_like(parameter)
        self._optimizer.step()

    def gradient(self, result: Tensor, video: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the gradient [B, 3, T, H, W] of both losses of the decoder, each of norm 1, and the losses.

        The losses are minus the mean verdict on the result, and the mean over layers of the L1 distance of
        features, relative to the size of the true ones.
        """
        guess = result.detach().requires_grad_(True)
        self.model.requires_grad_(False)
        with self._cast:
            verdict, features = self.model(guess)
            with torch.no_grad():
                _, wanted = self.model(video)
        self.model.requires_grad_(True)
        fooled = -verdict.float().mean()
        distance = torch.stack(
            [
                (mine.float() - true.float()).abs().mean() / true.float().abs().mean().clamp_min(1e-6)
                for mine, true in zip(features, wanted)
            ]
        ).mean()
        total = guess.new_zeros(guess.shape)
        for loss, keep in ((fooled, True), (distance, False)):
            (gradient,) = torch.autograd.grad(loss, guess, retain_graph=keep)
            total += gradient / gradient.norm().clamp_min(1e-12)
        return total, {"fooled": fooled.detach(), "feature_distance": distance.detach()}

    def learn(self, result: Tensor, video: Tensor) -> dict[str, Tensor]:
        """Make one step on the hinge loss; return it."""
        with self._cast:
            true, _ = self.model(video)
            false, _ = self.model(result.detach())
        loss = relu(1 - true.float()).mean() + relu(1 + false.float()).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._workers.average([p.grad for p in self.model.parameters() if p.grad is not None])
        self._optimizer.step()
        return {"adversary": loss.detach()}

    def state(self) -> dict[str, Tensor]:
        """Return weights and optimizer state, by name."""
        named: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            named |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
        return named

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        mine = self.state()
        weights = {k.removeprefix("model."): state[k] for k in mine if k.startswith("model.")}
        self.model.load_state_dict(weights)
        content = self._optimizer.state_dict()
        for number, values in content["state"].items():
            for key in values:
                values[key] = state[f"optimizer.{number}.{key}"].clone()
        self._optimizer.load_state_dict(content)
