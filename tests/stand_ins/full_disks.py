"""A disk on which no file grows beyond some bytes: as full as one can be made without rights."""

import contextlib
import resource
import signal


@contextlib.contextmanager
def no_room_beyond(size):
    """Writers get EFBIG, as they get ENOSPC on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
