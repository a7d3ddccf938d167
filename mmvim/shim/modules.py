"""Which modules there are, and what is in them."""

from mmvim.errors import UserNotImplementedError
from mmvim.ops import causal_conv1d_fn, selective_scan_fn

from . import convs, inner, mamba, norms, refs, scans, steps

MAMBA_2 = 'of Mamba-2 there is only selective_state_update; install mamba-ssm on a machine with a GPU'


def _uncovered(name: str, advice: str) -> type:
    """A class that can be imported, and says on a call what to do instead."""

    def __init__(self, *args, **kwargs):
        raise UserNotImplementedError(f'mmvim.shim does not cover {name}: {advice}')

    return type(name, (), {'__init__': __init__})


_mamba2 = {'Mamba2': _uncovered('Mamba2', MAMBA_2)}
_language_model = {
    'MambaLMHeadModel': _uncovered('MambaLMHeadModel', "transformers' MambaForCausalLM loads the same weights"),
}
_scan = {
    'selective_scan_fn': selective_scan_fn,
    'selective_scan_ref': refs.selective_scan_ref,
    'mamba_inner_fn': inner.mamba_inner_fn,
    'mamba_inner_ref': inner.mamba_inner_ref,
    'mamba_inner_fn_no_out_proj': inner.mamba_inner_fn_no_out_proj,
    'bimamba_inner_fn': inner.bimamba_inner_fn,
}
_update = {'selective_state_update': steps.selective_state_update}
_norm = {'RMSNorm': norms.RMSNorm, 'layer_norm_fn': norms.layer_norm_fn, 'rms_norm_fn': norms.rms_norm_fn}
_conv = {
    'causal_conv1d_fn': causal_conv1d_fn,
    'causal_conv1d_ref': refs.causal_conv1d_ref,
    'causal_conv1d_update': steps.causal_conv1d_update,
}
# What is made of Triton kernels in mamba-ssm: without Triton it is ours inside a mamba-ssm that is installed, too.
TRITON_PARTS = {
    'mamba_ssm.ops.triton.layer_norm': _norm,
    'mamba_ssm.ops.triton.layernorm': _norm,
    'mamba_ssm.ops.triton.selective_state_update': _update,
}
MODULES = {
    'mamba_ssm': {'__version__': '2.3.2+mmvim', 'Mamba': mamba.Mamba, **_scan, **_update, **_mamba2, **_language_model},
    'mamba_ssm.models': {},
    'mamba_ssm.models.mixer_seq_simple': _language_model,
    'mamba_ssm.modules': {},
    'mamba_ssm.modules.mamba2': _mamba2,
    'mamba_ssm.modules.mamba_simple': {'Mamba': mamba.Mamba},
    'mamba_ssm.ops': {},
    'mamba_ssm.ops.selective_scan_interface': _scan,
    'mamba_ssm.ops.triton': {},
    **TRITON_PARTS,
    'mamba_ssm.utils': {},
    'mamba_ssm.utils.generation': {'InferenceParams': mamba.InferenceParams},
    'selective_scan_cuda': {'fwd': scans.mamba_fwd, 'bwd': scans.mamba_bwd},
    'selective_scan_cuda_core': {'fwd': scans.vmamba_fwd, 'bwd': scans.vmamba_bwd},
    'selective_scan_cuda_oflex': {'fwd': scans.vmamba_fwd, 'bwd': scans.vmamba_bwd},
    'causal_conv1d': {'__version__': '1.7.0+mmvim', **_conv},
    'causal_conv1d.causal_conv1d_interface': _conv,
    'causal_conv1d_cuda': {
        'causal_conv1d_fwd': convs.causal_conv1d_fwd,
        'causal_conv1d_bwd': convs.causal_conv1d_bwd,
        'causal_conv1d_update': convs.causal_conv1d_update_into,
    },
}
