"""Errors as sentences on the page."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from mmvim.engine.oom import is_out_of_memory
from mmvim.errors import UserError

from .sources import PREFIX


def sentence(error: Exception) -> str:
    """What the page says of an error, as HTML."""
    text = re.sub(rf'\S*{PREFIX}\S*/', '', ' '.join(str(error).split()))  # where uploads are is nobody's matter
    if is_out_of_memory(error):
        text = 'this needs more memory than there is: take a smaller image or a smaller model'
    elif not isinstance(error, (UserError, ValueError, OSError)):
        text = f'{type(error).__name__}: {text}'
    return escape(text)


def on_page(handler: Callable) -> Callable:
    """Turn errors into sentences on the page; what nobody foresaw is printed in the terminal as well."""

    @wraps(handler)
    def handled(*arguments: Any, **options: Any) -> Any:
        try:
            return handler(*arguments, **options)
        except Exception as error:  # noqa: BLE001  whatever it is, the page goes on
            if not isinstance(error, UserError):
                traceback.print_exc()
            raise gr.Error(sentence(error), duration=20, print_exception=False) from error

    return handled
