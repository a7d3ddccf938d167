"""Where the official weights live."""

_HUB = 'https://huggingface.co/hustvl'

#: File name of each official classification checkpoint, and its address.
OFFICIAL_FILES: dict[str, str] = {
    name: f'{_HUB}/{repository}/resolve/main/{name}'
    for repository, names in {
        'Vim-tiny-midclstok': ('vim_t_midclstok_76p1acc.pth', 'vim_t_midclstok_ft_78p3acc.pth'),
        'Vim-small-midclstok': ('vim_s_midclstok_80p5acc.pth', 'vim_s_midclstok_ft_81p6acc.pth'),
        'Vim-base-midclstok': ('vim_b_midclstok_81p9acc.pth',),
    }.items()
    for name in names
}
