"""The page: what stands where, and what calls what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from .handlers import NONE, Handlers
from .upload import upload

TITLE = 'mmvim: see what a model sees'
_WAITING = 32  # requests in the queue
_HOUR = 3600

_NOTHING_YET = (
    '<div class="mm-warn">There are no weights on this machine yet. <b>make demo</b> draws a miniature ADE20K and '
    'trains a small Vim on it, in about five minutes; load this page again then. Published files belong into the '
    'folder <b>weights</b>: choose a model of the zoo, and the page says where its file is.</div>'
)


def build_page(handlers: Handlers, examples: Sequence[Path]) -> gr.Blocks:
    """Put the page together.

    Args:
        handlers: What it does.
        examples: Images to start with.
    """
    one_at_a_time = {'concurrency_limit': 1, 'concurrency_id': 'models', 'api_visibility': 'private'}
    plain = {'api_visibility': 'private'}
    view = ['download', 'fullscreen']
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, _HOUR)) as page:
        shown = gr.State({}, time_to_live=_HOUR)
        gr.HTML(
            '<div class="mm-head"><h1>mmvim</h1>'
            '<p>What a model sees. Images and results stay on this machine.</p></div>'
        )
        notice = gr.HTML(visible=False)
        with gr.Row():
            with gr.Column(scale=4, min_width=320):
                image = upload(
                    label='Image', sources=['upload', 'clipboard'], height=230, buttons=[], elem_id='image',
                )  # fmt: skip
                gr.Examples([str(path) for path in examples], image, label='Examples', elem_id='examples')
                with gr.Accordion('From an address of this machine', open=False, elem_id='from-address'):
                    address = gr.Textbox(
                        placeholder='http://127.0.0.1:8000/image.png', show_label=False, max_lines=1, elem_id='address'
                    )
                    get = gr.Button('Fetch', size='sm', elem_id='fetch')
                with gr.Group():
                    model = gr.Dropdown([], label='Model', elem_id='model')
                    second = gr.Dropdown([NONE], value=NONE, label='Compare with', elem_id='second')
                    windows = gr.Checkbox(
                        label='By a window, in full resolution', elem_id='windows',
                        info='For segmentors; always above 64 megapixels.',
                    )  # fmt: skip
                with gr.Row():
                    run = gr.Button('Look', variant='primary', elem_id='look', scale=3)
                    stop = gr.Button('Stop', elem_id='stop', scale=1, min_width=80)
                about = gr.HTML(elem_id='about')
            with gr.Column(scale=8, min_width=480), gr.Tabs():
                with gr.Tab('What it sees', elem_id='tab-seen'):
                    with gr.Row():
                        threshold = gr.Slider(0, 1, 0.3, step=0.01, label='Score threshold', elem_id='threshold')
                        opacity = gr.Slider(0, 1, 0.5, step=0.01, label='Opacity', elem_id='opacity')
                    with gr.Row():
                        with gr.Column(scale=5, min_width=320):
                            picture = gr.Image(
                                show_label=False,
                                interactive=False,
                                height=540,
                                buttons=view,
                                format='png',
                                elem_id='picture',
                            )
                            slider = gr.ImageSlider(
                                show_label=False, interactive=False, max_height=540, visible=False, buttons=view,
                                format='png', elem_id='slider',
                            )  # fmt: skip
                        with gr.Column(scale=3, min_width=240):
                            legends = gr.HTML(elem_id='legends')
                with gr.Tab('Receptive field', elem_id='tab-field'):
                    output = gr.Dropdown([], label='Output, whose gradient is taken', elem_id='output')
                    with gr.Row():
                        clicked = gr.Image(
                            label='Click a pixel',
                            interactive=False,
                            height=420,
                            buttons=[],
                            format='png',
                            elem_id='clicked',
                        )
                        field = gr.Image(
                            label='Receptive field',
                            interactive=False,
                            height=420,
                            buttons=view,
                            format='png',
                            elem_id='field',
                        )
                    of_field = gr.HTML(elem_id='of-field')
                with gr.Tab('Walks', elem_id='tab-walks'):
                    with gr.Row(equal_height=True):
                        layer = gr.Dropdown([], label='Layer', scale=4, elem_id='layer')
                        measure = gr.Button('Show what each walk adds', scale=2, elem_id='measure')
                    walks = gr.Gallery(
                        label='Walks', columns=2, height='auto', object_fit='contain', interactive=False, buttons=view,
                        elem_id='walks',
                    )  # fmt: skip
                    of_walks = gr.HTML(elem_id='of-walks')

        def choices() -> tuple:
            """What there is to choose from now, when somebody opens the page."""
            offers = handlers.offers()
            first = next(iter(offers))  # what can be taken comes first
            return (
                gr.update(choices=list(offers), value=first),
                gr.update(choices=[NONE, *offers], value=NONE),
                gr.update(value=_NOTHING_YET, visible=offers[first].missing is not None),
                str(examples[0]),
            )

        seen = [picture, slider, legends]
        chosen = [model]
        page.load(choices, None, [model, second, notice, image], show_progress='hidden', **plain)
        page.unload(handlers.stop)
        model.change(handlers.describe, chosen, [about, output, layer], **one_at_a_time)
        image.change(handlers.show, image, [clicked, clicked], show_progress='hidden', **plain)
        get.click(handlers.fetch, address, image, **plain)
        address.submit(handlers.fetch, address, image, **plain)
        run.click(
            handlers.look, [image, model, second, threshold, opacity, windows], [shown, *seen],
            show_progress_on=[picture, slider], **one_at_a_time,
        )  # fmt: skip
        stop.click(handlers.stop, None, None, queue=False, **plain)
        gr.on(
            [threshold.change, opacity.change], handlers.draw, [shown, threshold, opacity], seen,
            show_progress='hidden', trigger_mode='always_last', **plain,
        )  # fmt: skip
        clicked.select(handlers.field, [image, model, output], [field, of_field], **one_at_a_time)
        measure.click(handlers.walks, [image, model, layer], [walks, of_walks], **one_at_a_time)
    return page.queue(max_size=_WAITING)
