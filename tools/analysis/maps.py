"""Draw what goes on in a model: Grad-CAM, activations, or what its scans carry from token to token (docs/maps.md).

python tools/analysis/maps.py street.jpg upernet_vmamba_t_ade20k --at 120,80 --class car
python tools/analysis/maps.py street.jpg upernet_vmamba_t_ade20k --kind activation --stage 2
python tools/analysis/maps.py street.jpg upernet_vim_t_ade20k vim.pth --kind scan --stage 12 --at 120,80 --out maps
"""

import sys

from mmvim.commands import run_tool
from mmvim.commands.maps import main

if __name__ == '__main__':
    run_tool(lambda: sys.exit(main()))
