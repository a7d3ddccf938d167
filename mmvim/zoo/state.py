"""What an evaluation has done so far, in a file that is whole at any moment."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from mmvim.errors import UserValueError
from mmvim.files import write_whole


class State:
    """Results and failures by the name of the job.

    Args:
        path: The file; read if it is there, written with every change.

    Raises:
        ValueError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, dict[str, str]] = {}
        if path.is_file():
            try:
                content = json.loads(path.read_text())
                self.results, self.failures = content['results'], content['failures']
            except (ValueError, KeyError, TypeError) as error:
                raise UserValueError(f'{path} is damaged ({error!r}): delete it to evaluate everything anew') from error

    def has(self, job: str, request: dict[str, Any]) -> bool:
        """Whether a job was done, and of the same request."""
        return job in self.results and self.results[job]['request'] == request

    def finish(self, job: str, request: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep the result of a job."""
        self.results[job] = {'request': request, 'finished': _now(), **result}
        self.failures.pop(job, None)
        self._save()

    def fail(self, job: str, message: str) -> None:
        """Keep why a job failed. An older result of it is dropped: it was of another request."""
        self.failures[job] = {'message': message, 'when': _now()}
        self.results.pop(job, None)
        self._save()

    def _save(self) -> None:
        content = {'results': self.results, 'failures': self.failures}
        write_whole(self.path, json.dumps(content, indent=2) + '\n')


def _now() -> str:
    return datetime.now().isoformat(timespec='seconds')
