"""``python -m mmvim.shim SCRIPT ARGS...``"""

import runpy
import sys
from pathlib import Path

from mmvim.shim import install

if __name__ == '__main__':
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit(f'no such script: {" ".join(sys.argv[1:2])}\nusage: python -m mmvim.shim SCRIPT ARGS...')
    install()
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name='__main__')
