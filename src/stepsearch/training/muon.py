"""Muon for the hidden matrices of a small model (Keller Jordan, 2024)."""

from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Steps each matrix along the orthogonalised momentum of its gradient.

    `torch.optim.Muon` computes in bfloat16, which is twenty times slower on CPUs without bfloat16 units and would make
    the result depend on the machine; this one stays in the parameter's type.

    Args:
        matrices: parameters with two axes.
        lr: update size; a matrix taller than wide takes a step larger by the root of the ratio.
        momentum: of the gradient, with Nesterov's look-ahead.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - closures are of no use here
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, matrix.grad, group["lr"], group["momentum"])

    def _update(self, matrix: Tensor, grad: Tensor, lr: float, momentum: float) -> None:
        state = self.state[matrix]
        if not state:
            state["average"] = torch.zeros_like(matrix)
        state["average"].lerp_(grad, 1 - momentum)
        direction = orthogonalise(grad.lerp(state["average"], momentum))
        matrix.add_(direction, alpha=-lr * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return `matrix` [M, N] with all singular values near 1 (between about 0.7 and 1.2), by Newton-Schulz steps."""
    a, b, c = _COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
