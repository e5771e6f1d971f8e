"""Which EbbMQ this is; a constant, because asking the installed metadata costs a supervisor 1.8 MiB of modules."""

from typing import Final

VERSION: Final = "0.1.0"
