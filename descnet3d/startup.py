"""What a process begins with: Keras without TensorFlow's messages, and how many cores there are."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile


def import_keras() -> None:
    """Imports Keras and its backend, and keeps to itself what TensorFlow prints meanwhile.

    Whoever has set TF_CPP_MIN_LOG_LEVEL gets what they asked for instead; and where the import
    fails, all that was printed.

    TF_ENABLE_ONEDNN_OPTS, which TensorFlow reads once, is set to 1 where it is not set: by itself
    TensorFlow leaves oneDNN's convolutions to processors that have instructions for neural
    networks, but they are the faster on others, too (docs/results/speed.md).
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "keras" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        importlib.import_module("keras")
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Since 2.19 TensorFlow logs to the file descriptor while it is imported, whatever that variable
    # says (its issue 100442).
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            importlib.import_module("keras")
        except Exception:
            caught.seek(0)
            os.write(standard_error, caught.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
