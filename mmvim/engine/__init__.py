"""What mmengine's runner lacks: optimizer groups, hooks and wrappers, and what tools/ call before a run."""

from mmvim.renamed import renamed

from .amp import CpuAmpOptimWrapper, enable_amp
from .amp_inference import AmpInferenceHook
from .checkpoint_hook import SafeCheckpointHook
from .cpu import set_up_cpu
from .exact_resume import ExactResumeHook
from .label_watch import LabelWatchHook, watch_labels
from .layer_decay import LayerDecayOptimWrapperConstructor, group_table
from .oom import explain_out_of_memory
from .pooled_norm import check_pooled_norm
from .runner import Runner
from .start_report import StartReportHook

__all__ = [
    'AmpInferenceHook',
    'CpuAmpOptimWrapper',
    'ExactResumeHook',
    'LabelWatchHook',
    'LayerDecayOptimWrapperConstructor',
    'Runner',
    'SafeCheckpointHook',
    'StartReportHook',
    'check_pooled_norm',
    'enable_amp',
    'explain_out_of_memory',
    'group_table',
    'set_up_cpu',
    'watch_labels',
]

__getattr__ = renamed(__name__, {'adapt_to_cpu': 'mmvim.engine.cpu.set_up_cpu'})
