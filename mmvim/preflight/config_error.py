"""What mmengine says of a config that it cannot read, in one sentence."""

import re
import traceback
from pathlib import Path

_INHERITS = re.compile(
    r'(\w+)=.* in child config cannot inherit from base because .* is of type <class \'(\w+)\'>', re.S
)
_NAMES = {
    'str': 'a text',
    'list': 'a list',
    'tuple': 'a list',
    'int': 'a number',
    'float': 'a number',
    'bool': 'True or False',
}


def config_sentence(path: Path, error: Exception) -> str:
    """What is wrong with a config, and where.

    Args:
        path: The config.
        error: That reading it raised.
    """
    said = str(error.args[0]) if error.args else type(error).__name__
    inherits = _INHERITS.match(said)
    if inherits:
        key, kind = inherits.groups()
        kind = {'NoneType': 'None'}.get(kind, _NAMES.get(kind, f'a {kind}'))
        return (
            f'{path}: {key} is a dict, where the config that it starts from has {kind}; '
            f'write {kind}, or add _delete_=True to the dict if it shall stand instead.'
        )
    if isinstance(error, SyntaxError):
        return f'{path}, line {error.lineno}: {error.msg}.'
    if isinstance(error, FileNotFoundError):
        return f'{path}: its _base_ {error.filename or said} does not exist.'
    if 'Duplicate key is not allowed among bases' in said:
        keys = sorted(re.findall(r"'(\w+)'", said))
        more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
        return f'{path}: two of its _base_ files both have {", ".join(keys[:3])}{more}; take one of them out.'
    if said.startswith('Failed to import custom modules'):
        return f'{path}: custom_imports: {error.__cause__ or said.splitlines()[0]}; install it, or set PYTHONPATH.'
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()
    ]
    where = f'{path}, line {lines[-1]}' if lines else str(path)
    return f'{where}: {type(error).__name__}: {said.splitlines()[0]}'
