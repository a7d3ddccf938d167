"""``with torch.cuda.device(x.device):`` around code that does not need a GPU."""

import torch


class device(torch.cuda.device):  # noqa: N801 - torch's name
    """``torch.cuda.device`` that does nothing for a CPU device, nor for the index None of one where there is no GPU."""

    def __init__(self, device):
        # A string, a device, or an index; an index below zero changes nothing.
        on_cpu = str(device).partition(':')[0] == 'cpu' or (device is None and not torch.cuda.is_available())
        super().__init__(-1 if on_cpu else device)


def install() -> None:
    """Put it in the place of torch's."""
    torch.cuda.device = device
