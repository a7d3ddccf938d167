"""What mmengine's runner lacks: optimizer groups, hooks and wrappers, and what tools/ call before a run."""

from .amp import CpuAmpOptimWrapper, enable_amp
from .checkpoint_hook import SafeCheckpointHook
from .cpu import set_up_cpu
from .exact_resume import ExactResumeHook
from .layer_decay import LayerDecayOptimWrapperConstructor, group_table
from .oom import explain_out_of_memory
from .runner import Runner
from .start_report import StartReportHook

__all__ = [
    'CpuAmpOptimWrapper',
    'ExactResumeHook',
    'LayerDecayOptimWrapperConstructor',
    'Runner',
    'SafeCheckpointHook',
    'StartReportHook',
    'enable_amp',
    'explain_out_of_memory',
    'group_table',
    'set_up_cpu',
]
