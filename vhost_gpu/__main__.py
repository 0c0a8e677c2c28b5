"""``python -m vhost_gpu`` is the ``vhost-gpu`` command."""

import sys

from vhost_gpu.cli import main

sys.exit(main())
