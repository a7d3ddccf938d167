"""Tables in Markdown."""

from mmvim.markdown import markdown_table


def test_table() -> None:
    assert markdown_table(['a', 'b'], [[1, 'x'], [2.5, '']]) == '| a | b |\n| --- | --- |\n| 1 | x |\n| 2.5 |  |\n'
