"""The looks of the page."""

import gradio as gr

#: Fonts that the system has: no others are fetched.
_FONTS = ('ui-sans-serif', 'system-ui', 'sans-serif')
_MONO = ('ui-monospace', 'Consolas', 'monospace')

CSS = """
.gradio-container { max-width: 1440px !important; padding: 12px 20px !important; }
.mm-head h1 { font-size: 1.35rem; margin: 0; }
.mm-head p { font-size: 0.9rem; margin: 2px 0 0; color: var(--body-text-color-subdued); }
.mm-note { color: var(--body-text-color-subdued); font-size: 0.85rem; margin: 4px 0; overflow-wrap: anywhere; }
.mm-warn { border-left: 3px solid #d97706; background: #fffbeb; color: #78350f; padding: 8px 12px; border-radius: 6px; }
.dark .mm-warn { background: #451a03; color: #fde68a; }
.mm-legends { display: flex; flex-direction: column; gap: 16px; }
.mm-legend h4 { margin: 4px 0; font-size: 0.9rem; overflow-wrap: anywhere; }
.mm-legend table { width: 100%; border-collapse: collapse; font-size: 0.85rem; }
.mm-legend table, .mm-legend tr, .mm-legend td { border: 0 !important; }
.mm-legend td { padding: 2px 6px 2px 0 !important; white-space: nowrap; }
.mm-swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; }
.mm-bar { width: 100%; min-width: 40px; }
.mm-bar span { display: block; height: 6px; border-radius: 3px; min-width: 1px; }
.mm-number { text-align: right; font-variant-numeric: tabular-nums; }
.mm-times { color: var(--body-text-color-subdued); font-size: 0.8rem; margin: 6px 0 0; }
"""


def theme() -> gr.Theme:
    """Colours, fonts and distances."""
    soft = gr.themes.Soft(primary_hue='indigo', font=_FONTS, font_mono=_MONO, text_size='sm', spacing_size='sm')
    return soft.set(
        block_title_background_fill='transparent',
        block_title_padding='0',
        block_title_text_color='*body_text_color',
        block_label_background_fill='*background_fill_primary',
        block_label_text_color='*body_text_color',
    )
