"""Run the cells of a notebook one after the other in this process, as a kernel does, and keep what they show.

    python tests/test_docs/notebook.py docs/tour.ipynb [--write]

In the current folder; ``--write`` puts what is shown into the file, as Jupyter would. Nothing but Python is needed.
"""

import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mmvim.files import write_whole


def run(notebook: dict[str, Any]) -> None:
    """Run all cells; their outputs take the place of those that were there."""
    names: dict[str, Any] = {'__name__': '__main__'}
    codes = (cell for cell in notebook['cells'] if cell['cell_type'] == 'code')
    for number, cell in enumerate(codes, 1):
        printed = io.StringIO()
        with redirect_stdout(printed):
            value = _run_cell(''.join(cell['source']), f'<cell {number}>', names)
        cell['execution_count'] = number
        cell['outputs'] = [*_stream(printed.getvalue()), *_result(value, number)]


def _run_cell(source: str, name: str, names: dict[str, Any]) -> Any:
    """The value of the last line, if it is an expression."""
    body = ast.parse(source, name).body
    last = ast.Expression(body.pop().value) if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, 'exec'), names)
    return None if last is None else eval(compile(last, name, 'eval'), names)


def _stream(text: str) -> list[dict[str, Any]]:
    return [{'name': 'stdout', 'output_type': 'stream', 'text': text.splitlines(keepends=True)}] if text else []


def _result(value: Any, number: int) -> list[dict[str, Any]]:
    if value is None:
        return []
    data: dict[str, Any] = {'text/plain': [repr(value)]}
    if hasattr(value, '_repr_png_'):
        data['image/png'] = base64.b64encode(value._repr_png_()).decode()
    return [{'data': data, 'execution_count': number, 'metadata': {}, 'output_type': 'execute_result'}]


if __name__ == '__main__':
    path = Path(sys.argv[1]).resolve()
    content = json.loads(path.read_text())
    run(content)
    if '--write' in sys.argv[2:]:
        write_whole(path, json.dumps(content, indent=1) + '\n')
