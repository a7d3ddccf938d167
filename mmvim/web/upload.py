"""The page's field for an image: its file is handed on as it was uploaded."""

from __future__ import annotations

from typing import Any

import gradio as gr


def upload(**options: Any) -> gr.Image:
    """An image that gradio does not open on the way: what is wrong with it, is said by what reads it.

    Two methods of this one object are replaced. For a class of its own, gradio would write a file beside its source.
    """
    image = gr.Image(type='filepath', image_mode=None, **options)
    keep = image.async_move_resource_to_block_cache

    async def keep_file(source: Any) -> str | None:
        """Refuse an address that somebody sends in place of a file, which gradio would fetch."""
        if str(source).startswith(('http://', 'https://')):
            raise gr.Error('upload an image, or give its address on this machine in the field for that')
        return await keep(source)

    image.preprocess = lambda payload: payload and payload.path
    image.async_move_resource_to_block_cache = keep_file
    return image
