"""What the machine refused, in one sentence: files, room on the disk, memory."""

from __future__ import annotations

import errno
import re

FULL = (errno.ENOSPC, errno.EDQUOT)
# On a processor torch raises these as plain RuntimeErrors: only their texts tell them from others.
NO_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")


def lacked(error: BaseException) -> str | None:
    """The sentence for an error by which the operating system or torch refused something, None for any other error."""
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        if error.errno in FULL:
            return f"the disk is full: no room for{where or ' more'}; what is done is saved, make room and go on"
        return f"cannot use{where}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        asked = re.search(r"allocate (\d+) bytes", str(error))
        size = f" ({int(asked[1]) / 1e9:,.0f} GB were asked for at once)" if asked else ""
        return f"this machine has too little memory for it{size}; choose a smaller network, image size or batch size"
    return None
