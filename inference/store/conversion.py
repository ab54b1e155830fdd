"""GGUF into safetensors, tokenizer and chat template, in a process of its own.

torch and the dequantized weights need gigabytes that the caller does not have to
keep, and a crash in them is then an error message.
"""

from __future__ import annotations

import sys
from pathlib import Path

from inference.errors import ConversionFailed
from inference.store.child import ChildFailed, run_child
from inference.store.fetched import Report

SCRIPT = Path(__file__).with_name("convert_gguf.py")
MARKER = "sluice: "
DTYPE = "bfloat16"
# 25 s for 135 million parameters on two cores; hours for the largest.
TIMEOUT_S = 6 * 3600


def convert_gguf(source: Path, target: Path, *, log: Path, lock_fd: int, report: Report) -> str:
    """Fill the empty folder ``target``; returns the tool and its version.

    The child inherits ``lock_fd``, so that the lock outlives a killed parent for
    as long as somebody still writes.
    """
    report(f"converting {source.name} to {DTYPE} safetensors, once")
    # -P: modules beside the script (file.py, …) must not shadow anyone's imports.
    argv = [sys.executable, "-P", str(SCRIPT), str(source), str(target), DTYPE]
    try:
        run_child(
            argv,
            log=log,
            timeout_s=TIMEOUT_S,
            report=report,
            waiting_for=f"converting {source.name}",
            marker=MARKER,
            pass_fds=(lock_fd,),
        )
    except ChildFailed as error:
        raise ConversionFailed(f"{source.name} could not be converted: {error}") from error
    return (target / ".tool").read_text().strip()
