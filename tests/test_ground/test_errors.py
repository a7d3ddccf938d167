"""Errors for people are Python's own ones as well, and survive what passes them on."""

import pickle

import pytest

from mmvim import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.UserError]


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_each_is_an_error_of_python(kind: type[errors.UserError]) -> None:
    builtin = __builtins__[kind.__name__.removeprefix('User')]
    with pytest.raises(builtin) as caught:
        raise kind('no such thing')
    assert isinstance(caught.value, errors.UserError)
    assert str(caught.value) == 'no such thing'


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_each_can_be_made_anew_and_sent_to_another_process(kind: type[errors.UserError]) -> None:
    error = kind('no such thing')
    for copy in (type(error)(f'class `Vim`: {error}'), pickle.loads(pickle.dumps(error))):
        assert isinstance(copy, kind)
        assert str(copy).endswith('no such thing')
