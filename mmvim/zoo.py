"""Where official weights are published."""

# File -> repository. The part before `_midclstok` is the model, `ft` is fine-tuned at half the stride ("Vim+").
OFFICIAL_WEIGHTS = {
    'vim_t_midclstok_76p1acc.pth': 'huggingface.co/hustvl/Vim-tiny-midclstok',
    'vim_t_midclstok_ft_78p3acc.pth': 'huggingface.co/hustvl/Vim-tiny-midclstok',
    'vim_s_midclstok_80p5acc.pth': 'huggingface.co/hustvl/Vim-small-midclstok',
    'vim_s_midclstok_ft_81p6acc.pth': 'huggingface.co/hustvl/Vim-small-midclstok',
    'vim_b_midclstok_81p9acc.pth': 'huggingface.co/hustvl/Vim-base-midclstok',
}
