"""What ``python -m mmvim.doctor`` does: say what this machine has of what mmvim uses, and what to type for the rest."""

from collections.abc import Callable, Iterator

from mmvim.preflight.data.places import examine_data
from mmvim.preflight.finding import Finding, show, summary
from mmvim.preflight.packages import examine_mmcv_ops, examine_stack
from mmvim.preflight.toolchain import examine_compiler, examine_kernels, examine_python, examine_torch
from mmvim.preflight.weights import examine_weights

QUESTIONS: tuple[Callable[[], Iterator[Finding]], ...] = (
    examine_python,
    examine_torch,
    examine_stack,
    examine_mmcv_ops,
    examine_kernels,
    examine_compiler,
    examine_data,
    examine_weights,
)


def examine() -> list[Finding]:
    """All findings; a question whose answer fails is a finding too."""
    findings: list[Finding] = []
    for question in QUESTIONS:
        try:
            findings.extend(question())
        except Exception as error:
            subject = question.__name__.removeprefix('examine_').replace('_', ' ')
            findings.append(Finding(subject, False, summary(error), 'see docs/troubleshooting.md'))
    return findings


def main() -> int:
    """Examine, print, and tell by the exit code whether something is missing that nothing goes on without."""
    findings = examine()
    show(findings, 'mmvim doctor')
    return int(any(finding.needed and not finding.ok for finding in findings))
