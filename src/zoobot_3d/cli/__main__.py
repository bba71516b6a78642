"""``python -m zoobot_3d.cli``, where the script ``zoobot3d`` is not on the path."""

import sys

from zoobot_3d.cli import main

sys.exit(main())
