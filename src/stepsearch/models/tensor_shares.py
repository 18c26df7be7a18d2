"""A tensor and the share of it that a process keeps, where weights are shared out (FSDP2)."""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole_tensor(x: Tensor) -> Tensor:
    """Return a tensor of which every process may have a share, or a summand; all of them have to ask."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def share_of(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return of a whole tensor the share that this process has of `parameter`; all of it, where that is whole."""
    if not isinstance(parameter, DTensor):
        return tensor
    on_device = tensor.to(parameter.device)
    return distribute_tensor(on_device, parameter.device_mesh, parameter.placements, src_data_rank=None)
