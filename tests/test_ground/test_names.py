"""What somebody probably meant."""

from mmvim.names import hint, nearest, slip_of

KNOWN = ('backbone', 'neck', 'decode_head', 'auxiliary_head')


def test_nearest_first() -> None:
    assert nearest('head', KNOWN)[0] == 'decode_head'
    assert nearest('bakbone', KNOWN) == ['backbone']
    assert nearest('zzz', KNOWN) == []


def test_end_of_a_sentence() -> None:
    assert hint('bakbone', KNOWN) == '; nearest: backbone'
    assert hint('zzz', KNOWN) == ''


def test_a_slip_is_nearer_than_a_resemblance() -> None:
    assert slip_of('bakbone', KNOWN) == 'backbone'
    assert nearest('head', KNOWN) and slip_of('head', KNOWN) is None
