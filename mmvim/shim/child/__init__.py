"""On the ``PYTHONPATH`` of processes that a script under the shim starts."""
