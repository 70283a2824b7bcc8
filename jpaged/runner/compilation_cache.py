"""Compiled steps on disk, between processes: where they are, and that none of them is broken.

JAX writes an entry in place, and never again.  Where the process was killed meanwhile, or the disk
was full, every later start would find it broken, say so, and compile anew.  So what was written
since the latest start is looked at once, and what is not whole is taken away.
"""

import logging
import os
import sys
import time
import zlib
from importlib import import_module
from pathlib import Path

import jax

SUFFIX = "-cache"  # of JAX's entries
STAMP = ".looked-through"  # a file: when they were all looked at
CLOCK_SECONDS = 2.0  # by which a disk's clock may differ from ours
ZSTD = b"\x28\xb5\x2f\xfd"

logger = logging.getLogger("jpaged")


def use_compilation_cache() -> None:
    """Keeps compiled steps on disk between processes, unless the user chose a place already.

    JAX_COMPILATION_CACHE_DIR (or `jax.config`) names another; empty means none.
    """
    if (
        jax.config.jax_compilation_cache_dir is None
        and "JAX_COMPILATION_CACHE_DIR" not in os.environ
    ):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jpaged" / "xla"))
    # by default programs that compile within a second are not kept, and most of ours do
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    folder = jax.config.jax_compilation_cache_dir
    if folder and os.path.isdir(folder):
        try:
            drop_broken(Path(folder))
        except OSError as error:  # a cache that may not be written serves all the same
            logger.warning("compiled steps were not looked through: %s", error)


def drop_broken(folder: Path) -> int:
    """Takes away what is not whole of the entries written since this was last called; how many.

    One that somebody is still writing is not whole either: he goes on writing, and nobody reads it.
    """
    stamp, now = folder / STAMP, time.time()
    since = stamp.stat().st_mtime - CLOCK_SECONDS if stamp.exists() else 0.0
    broken = [path for path in _written_since(folder, since) if not is_whole(path.read_bytes())]
    for path in broken:
        path.unlink(missing_ok=True)
    stamp.touch()
    os.utime(stamp, (now, now))
    return len(broken)


def _written_since(folder: Path, since: float) -> list[Path]:
    with os.scandir(folder) as entries:
        return [
            folder / entry.name
            for entry in entries
            if entry.name.endswith(SUFFIX) and entry.stat().st_mtime >= since
        ]


def is_whole(entry: bytes) -> bool:
    """Whether an entry can be unpacked to its end; JAX packs with what Python brings."""
    if not entry.startswith(ZSTD):
        unpacker, wrong = zlib.decompressobj(), zlib.error
    elif sys.version_info >= (3, 14):
        zstd = import_module("compression.zstd")
        unpacker, wrong = zstd.ZstdDecompressor(), zstd.ZstdError
    else:
        return True  # by a package that we do not bring
    try:
        unpacker.decompress(entry)
    except wrong:
        return False
    return unpacker.eof
