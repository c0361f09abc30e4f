"""`make demo`: the whole programme on real mail, from enquirers to partners' mailboxes (see deploy/demo)."""

import sys

from deploy.demo.options import options
from deploy.demo.stop import Stop


def main() -> int:
    # Before the rest is loaded: that takes a second, in which Ctrl-C would end in a traceback.
    stop = Stop()
    stop.listen()
    chosen = options()
    from deploy.demo.run import run  # noqa: PLC0415 - see above

    return run(chosen, stop)


if __name__ == "__main__":
    sys.exit(main())
